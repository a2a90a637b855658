//! The usual metrics of a process. Those that the system does not provide are left out.

use std::{fmt, fs, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::service_metrics::seconds;

/// Collects them.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    pub(super) started: SystemTime,
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        encoder
            .encode_descriptor("process_cpu_seconds", "CPU time used.", None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&cpu, None)?;
        let mut gauge = |name: &str, help: &str, value: Option<u64>| match value {
            Some(value) => {
                encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
            }
            None => Ok(()),
        };
        gauge("process_resident_memory_bytes", "Memory in use.", resident())?;
        gauge("process_open_fds", "Open file descriptors.", open_files())?;
        gauge("process_max_fds", "Limit of open file descriptors.", getrlimit(Resource::Nofile).current)?;
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        seconds(&mut encoder, "process_start_time_seconds", "When the service started.", started)
    }
}

fn resident() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok()?;
    pages.checked_mul(u64::try_from(page_size()).ok()?)
}

/// Without the one that reads the directory.
fn open_files() -> Option<u64> {
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(files.saturating_sub(1)).ok()
}
