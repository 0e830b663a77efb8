//! Clients that create Pods, and what it took.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures::future::try_join_all;

use crate::{api::Api, rows::Running, target};

/// What was measured of one row.
#[derive(Default)]
pub struct Sample {
    took: Vec<Duration>,
    time: Duration,
    /// How often a Secret was read meanwhile.
    pub reads: u64,
}

impl Sample {
    /// More of the same.
    pub fn add(&mut self, more: Self) {
        self.took.extend(more.took);
        self.took.sort();
        self.time += more.time;
        self.reads += more.reads;
    }

    /// How many Pods were created.
    pub fn pods(&self) -> usize {
        self.took.len()
    }

    /// Pods a second.
    pub fn rate(&self) -> f64 {
        self.took.len() as f64 / self.time.as_secs_f64()
    }

    /// What this part of them did not exceed.
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.took.len().saturating_sub(1);
        self.took.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }
}

/// Has so many clients create Pods for so long, each in the next namespace.
pub async fn run(api: &Api, row: &Running, namespaces: usize, clients: usize, time: Duration) -> Result<Sample> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let pod = row.pod().to_string().into_bytes();
    let reads = row.secret_reads();
    let begin = Instant::now();
    let one = || async {
        let mut took = Vec::new();
        while begin.elapsed() < time {
            let namespace = target::namespace(NEXT.fetch_add(1, Ordering::Relaxed) % namespaces);
            let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
            let sent = Instant::now();
            let (status, answer) = api.send("POST", &path, pod.clone()).await?;
            took.push(sent.elapsed());
            if status != 201 || row.is_missing_from(&answer) {
                bail!("{}: {status} {}", row.name(), String::from_utf8_lossy(&answer));
            }
        }
        Ok(took)
    };
    let mut took = try_join_all((0..clients).map(|_| one())).await?.concat();
    took.sort();
    Ok(Sample { took, time: begin.elapsed(), reads: row.secret_reads() - reads })
}
