//! A network in front of the API server that is not what it should be.

use crate::harness::Corner;
use kube::config::Kubeconfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy in front of the API server, with a mood.
pub struct Proxy {
    pub mood: watch::Sender<Mood>,
    pub connections: Arc<AtomicU64>,
    pub kubeconfig: PathBuf,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    /// Passes everything on.
    Fine,
    /// Drops every connection, old and new.
    Down,
    /// Drops every connection, and each new one after so many bytes of answers.
    Cutting(usize),
    /// Passes everything on, each piece 0.3 to 1.5 s late.
    Slow,
    /// Takes connections and passes nothing on, without a word. A connection from before is dead for good.
    Stalled,
}

impl Proxy {
    pub async fn before(corner: &Corner) -> Self {
        let mut kubeconfig = Kubeconfig::read_from(&corner.kubeconfig).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let mut server = None;
        for cluster in &mut kubeconfig.clusters {
            let cluster = cluster.cluster.as_mut().unwrap();
            let url = cluster.server.replace(format!("https://{own}"));
            server = url.map(|url| url.trim_start_matches("https://").parse::<SocketAddr>().unwrap());
        }
        let path = corner.directory.path().join("proxied.kubeconfig");
        // Only the server changes: text for text, because a Kubeconfig does not serialise its secrets.
        let text = std::fs::read_to_string(&corner.kubeconfig).unwrap();
        let server = server.unwrap();
        std::fs::write(&path, text.replace(&server.to_string(), &own.to_string())).unwrap();
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
        Self { mood, connections, kubeconfig: path }
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut moods: watch::Receiver<Mood>) -> Option<()> {
    let mood = *moods.borrow_and_update();
    let limit = match mood {
        Mood::Fine | Mood::Slow => usize::MAX,
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
                Mood::Fine | Mood::Slow if limit == usize::MAX => {}
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
        let is_slow = *moods.borrow() == Mood::Slow;
        if is_slow {
            tokio::time::sleep(Duration::from_millis(rand::random_range(300..1500))).await;
        }
        to.write_all(&buffer[..count]).await.ok()?;
        passed += count;
    }
    Some(())
}
