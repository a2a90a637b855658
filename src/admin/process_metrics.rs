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

use super::service_metrics::{gauge, unix_seconds};

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
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use.", resident()),
            ("process_open_fds", "Open file descriptors.", open_files()),
            ("process_max_fds", "Limit of open file descriptors.", getrlimit(Resource::Nofile).current),
        ] {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, value)?;
            }
        }
        let started = unix_seconds(self.started);
        gauge(&mut encoder, "process_start_time_seconds", "When the service started.", started)
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
