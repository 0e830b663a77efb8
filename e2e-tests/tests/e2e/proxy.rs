//! A network that is not what it should be. The tests of the generator use it too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy in front of a server, with a mood.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mood: watch::Sender<Mood>,
    connections: Arc<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    /// Passes everything on.
    Fine,
    /// Drops every connection, old and new.
    Down,
    /// Drops every connection, and each new one after so many bytes of answers.
    Cutting(usize),
    /// Passes everything on, each piece so late.
    Slow(Duration),
    /// Takes connections and passes nothing on, without a word. A connection from before is dead for good.
    Stalled,
}

impl Proxy {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, moods) = watch::channel(Mood::Fine);
        let connections = Arc::new(AtomicU64::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, server, moods.clone()));
            }
        });
        Self { address, mood, connections }
    }

    pub fn change(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many there were so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut moods: watch::Receiver<Mood>) -> Option<()> {
    let mood = *moods.borrow_and_update();
    let limit = match mood {
        Mood::Fine | Mood::Slow(_) => usize::MAX,
        Mood::Down => return None,
        Mood::Cutting(bytes) => bytes,
        Mood::Stalled => std::future::pending().await,
    };
    let server = TcpStream::connect(server).await.ok()?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let of_each = moods.clone();
    let ends = async {
        loop {
            moods.changed().await.ok()?;
            match *moods.borrow_and_update() {
                Mood::Fine | Mood::Slow(_) if limit == usize::MAX => {}
                Mood::Stalled => return Some(()),
                _ => return None,
            }
        }
    };
    let is_dead = tokio::select! {
        _ = carry(&mut from_client, &mut to_server, usize::MAX, of_each.clone()) => None,
        _ = carry(&mut from_server, &mut to_client, limit, of_each.clone()) => None,
        is_dead = ends => is_dead,
    };
    if is_dead.is_some() {
        // Neither side is told.
        std::future::pending::<()>().await;
    }
    Some(())
}

async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    limit: usize,
    moods: watch::Receiver<Mood>,
) -> Option<()> {
    let (mut buffer, mut passed) = (vec![0; 16384], 0);
    while passed < limit {
        let count = from.read(&mut buffer).await.ok().filter(|&count| count > 0)?;
        let count = count.min(limit - passed);
        let mood = *moods.borrow();
        if let Mood::Slow(late) = mood {
            tokio::time::sleep(late).await;
        }
        to.write_all(&buffer[..count]).await.ok()?;
        passed += count;
    }
    Some(())
}
