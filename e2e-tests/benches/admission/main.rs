//! What a policy adds to the creation of a Pod, on a real API server: Pods are created by server-side dry run, so that nothing
//! is left of them, and every way of adding the reference takes turns with the others.
//!
//! It writes to the disposable cluster of `$KUBECONFIG_E2E`. What can be set:
//!
//! | variable | is | by default |
//! |---|---|---|
//! | `BENCH_SECONDS` | how long each row is measured for a cell of the tables | 3 |
//! | `BENCH_CLIENTS` | how many Pods are being created at a time | 1,16,64 |
//! | `BENCH_NAMESPACES` | over how many namespaces they go | 1,1000 |
//! | `BENCH_DELAYS` | milliseconds that the API server takes longer to answer the policy's reads | 0,20 |
//! | `BENCH_ROWS` | only rows whose name contains one of these | all |
//! | `BENCH_WORKERS` | policy-server's workers | 2 |
//! | `BENCH_OTHER_MODULES` | other builds of the policy (with their metadata, for policy-server), as rows of their own | none |
//!
//! Kyverno's rows are there where its admission controller is in the `PATH` (`make kyverno-admission-controller`).
//!
//! It fails where a Pod is refused, or admitted without what the row is to add to it.

#[path = "../common/api.rs"]
mod api;
#[path = "../common/engine.rs"]
mod engine;
mod kyverno;
mod load;
mod rows;
mod target;

use std::{
    env,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use api::Api;
use kyverno::Kyverno;
use load::Sample;
use rows::{Row, Running};

/// How often the rows take turns within one cell.
const ROUNDS: u32 = 4;

#[tokio::main]
async fn main() -> Result<()> {
    let setting = Settings::read()?;
    let begin = Instant::now();
    let api = Api::connect().await?;
    target::prepare(&api, setting.namespaces.iter().copied().max().unwrap_or(1)).await?;
    let engine = engine::Kind::installed(setting.workers);
    let mut chosen = rows::all(&setting.other_modules, engine);
    chosen.retain(|row| setting.rows.is_empty() || setting.rows.iter().any(|part| row.name.contains(part.as_str())));
    let kyvernos: Vec<String> = chosen.iter().filter(|row| row.is_kyvernos()).map(Row::label).collect();
    let mut kyverno = match kyverno::installed() {
        Some(program) if !kyvernos.is_empty() => Some(Kyverno::start(&api, &program, &kyvernos).await?),
        _ => None,
    };
    let mut rows = Vec::new();
    for row in chosen {
        rows.extend(Running::start(row, engine, kyverno.as_mut(), &api).await?);
    }
    println!(
        "Kubernetes {}; engine: {}; {} processors, load {} at the start.",
        api.version,
        engine.describe(),
        std::thread::available_parallelism()?,
        load_average(),
    );
    for &delay in &setting.delays {
        let late = Duration::from_millis(delay);
        rows.iter().for_each(|row| row.delay_reads(late));
        // What reads nothing is the same however late reads are answered.
        let measures = |row: &&Running| row.reads() || row.name() == rows::YARDSTICK || delay == setting.delays[0];
        let measured: Vec<&Running> = rows.iter().filter(measures).collect();
        for &namespaces in &setting.namespaces {
            println!("\nReads {delay} ms later, {namespaces} namespaces:\n");
            let samples = measure(&setting, &api, &measured, namespaces).await?;
            print(&setting.clients, &measured, &samples);
        }
    }
    println!("\n| | resident at the start | at the end |\n|---|--:|--:|");
    for row in &rows {
        if let Some((start, end)) = row.resident()? {
            println!("| {} | {start:.0} MiB | {end:.0} MiB |", row.name());
        }
    }
    println!("\nLoad {} at the end, after {} s.", load_average(), begin.elapsed().as_secs());
    Ok(())
}

/// For every row a sample for each number of clients.
async fn measure(setting: &Settings, api: &Api, rows: &[&Running], namespaces: usize) -> Result<Vec<Vec<Sample>>> {
    let mut samples: Vec<Vec<Sample>> = rows.iter().map(|_| Vec::new()).collect();
    for &clients in &setting.clients {
        samples.iter_mut().for_each(|of_row| of_row.push(Sample::default()));
        for _ in 0..ROUNDS {
            for (row, of_row) in rows.iter().zip(&mut samples) {
                let more = load::run(api, row, namespaces, clients, setting.time / ROUNDS).await?;
                of_row.last_mut().expect("one was pushed").add(more);
            }
        }
    }
    Ok(samples)
}

fn print(clients: &[usize], rows: &[&Running], samples: &[Vec<Sample>]) {
    let heads = clients.iter().map(|clients| format!(" {clients} at a time: p50 | ÷ yardstick | p99 | Pods/s |"));
    println!("| |{} reads a Pod |", heads.collect::<String>());
    println!("|---|{}--:|", "--:|--:|--:|--:|".repeat(clients.len()));
    let yardstick = rows.iter().position(|row| row.name() == rows::YARDSTICK);
    for (row, of_row) in rows.iter().zip(samples) {
        print!("| {} |", row.name());
        for (number, sample) in of_row.iter().enumerate() {
            let (p50, p99) = (sample.quantile(0.5), sample.quantile(0.99));
            let unit = yardstick.map(|row| samples[row][number].quantile(0.5));
            let ratio = unit.map(|unit| format!("{:.2}", p50.as_secs_f64() / unit.as_secs_f64())).unwrap_or_default();
            print!(" {} | {ratio} | {} | {:.0} |", milliseconds(p50), milliseconds(p99), sample.rate());
        }
        let (reads, pods) = of_row.iter().fold((0, 0), |(reads, pods), one| (reads + one.reads, pods + one.pods()));
        println!(" {:.2} |", reads as f64 / pods as f64);
    }
}

struct Settings {
    time: Duration,
    clients: Vec<usize>,
    namespaces: Vec<usize>,
    delays: Vec<u64>,
    rows: Vec<String>,
    workers: usize,
    other_modules: Vec<PathBuf>,
}

impl Settings {
    fn read() -> Result<Self> {
        Ok(Self {
            time: Duration::from_secs_f64(one("BENCH_SECONDS", "3")?),
            clients: list("BENCH_CLIENTS", "1,16,64")?,
            namespaces: list("BENCH_NAMESPACES", "1,1000")?,
            delays: list("BENCH_DELAYS", "0,20")?,
            rows: list("BENCH_ROWS", "")?,
            workers: one("BENCH_WORKERS", "2")?,
            other_modules: list("BENCH_OTHER_MODULES", "")?,
        })
    }
}

fn one<T: FromStr>(variable: &str, default: &str) -> Result<T> {
    let text = env::var(variable).unwrap_or_default();
    let text = if text.is_empty() { default } else { &text };
    text.trim().parse().map_err(|_| anyhow!("{variable}: {text:?} is not what it should be"))
}

fn list<T: FromStr>(variable: &str, default: &str) -> Result<Vec<T>> {
    let text = env::var(variable).unwrap_or_default();
    let text = if text.is_empty() { default } else { &text };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| anyhow!("{variable}: {part:?} is not what it should be"))).collect()
}

fn milliseconds(duration: Duration) -> String {
    let value = duration.as_secs_f64() * 1e3;
    if value < 10.0 { format!("{value:.2} ms") } else { format!("{value:.0} ms") }
}

/// Of the last minute, by Linux.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").context("no load average").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
