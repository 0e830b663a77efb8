//! The usual process metrics of Prometheus exporters, under their usual names: processor time, memory, open files and start
//! time. They are read from `/proc`, so there are none on systems other than Linux.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::{fmt, fs};

/// Reads them each time the metrics are collected.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

/// Ticks per second in `/proc` (`USER_HZ`). It is the same on every architecture that the generator is built for.
const TICKS: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_files: f64,
    start_seconds: f64,
}

fn usage() -> Option<Usage> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count();
    parse(&read("/proc/self/stat")?, &read("/proc/self/status")?, &read("/proc/stat")?, open_files)
}

/// Parses the contents of these files, which proc(5) describes.
fn parse(stat: &str, status: &str, system_stat: &str, open_files: usize) -> Option<Usage> {
    // The second field is the name in parentheses. It may contain any character.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let line = |file: &str, key: &str| {
        let value = file.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next();
        value.and_then(|value| value.parse::<f64>().ok())
    };
    Some(Usage {
        cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS,
        resident_bytes: line(status, "VmRSS:")? * 1024.0,
        virtual_bytes: line(status, "VmSize:")? * 1024.0,
        open_files: u32::try_from(open_files).ok()?.into(),
        start_seconds: line(system_stat, "btime ")? + ticks(22)? / TICKS,
    })
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(usage) = usage() else { return Ok(()) };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let descriptor = encoder.encode_descriptor(
            "process_cpu_seconds",
            "Processor time of the user and of the system",
            None,
            cpu.metric_type(),
        )?;
        cpu.encode(descriptor)?;
        let gauges = [
            ("process_resident_memory_bytes", "Memory that is resident", usage.resident_bytes),
            ("process_virtual_memory_bytes", "Memory that is addressed", usage.virtual_bytes),
            ("process_open_fds", "Open file descriptors", usage.open_files),
            ("process_start_time_seconds", "When it began, in seconds since 1970", usage.start_seconds),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_process_are_read_as_proc_describes_them() {
        let stat = "4242 (a (strange) name) S 1 4242 4242 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 1 0 12345 99 77 184";
        let status = "Name:\tgenerator\nVmSize:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        let expected = Usage {
            cpu_seconds: 2.0,
            resident_bytes: 10_485_760.0,
            virtual_bytes: 20_971_520.0,
            open_files: 9.0,
            start_seconds: 1_000_123.45,
        };
        assert_eq!(parse(stat, status, "cpu 1 2 3\nbtime 1000000\n", 9), Some(expected));
        assert_eq!(parse("4242 (x) S 1", status, "btime 1\n", 9), None);
    }
}
