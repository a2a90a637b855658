//! Resource usage of another process.

use std::{error::Error, fs, time::Duration};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Resident memory in KiB.
pub(crate) fn resident(process: u32) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("no Rss")?;
    Ok(line.split_whitespace().next().ok_or("no Rss")?.parse()?)
}

/// Processor time used so far by all threads, user and system.
pub(crate) fn cpu(process: u32) -> Outcome<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in hundredths of a second; two fields came before the parenthesis.
    let ticks = [11, 12]
        .iter()
        .map(|at| fields.get(*at).map_or(Ok(0), |field| field.parse::<u64>()))
        .sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
