//! One measurement: clients, changes, and their cost.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    scenario::Load,
    subject::{Subject, Who},
    support::Outcome,
    watchers::Watchers,
};

/// Pause before a measurement, in which connections settle and buffers reach their size.
const SETTLE: Duration = Duration::from_millis(500);

/// The result of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Microseconds of processor time for each delivery.
    pub(crate) cpu: f64,
    /// Deliveries per second, from the first publication to the last delivery.
    pub(crate) rate: f64,
    /// Latencies in microseconds; 0 in a burst.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Starts `who`, connects clients, and publishes changes.
pub(crate) async fn load(who: Who, load: &Load, options: &str) -> Outcome<Sample> {
    let mut subject = Subject::start(who, options).await?;
    let watchers = Watchers::open(who.protocol(), subject.address(), load.connections, load.streams).await?;
    run(&mut subject, &watchers, load).await
}

/// Measures a running server with connected clients.
pub(crate) async fn run(subject: &mut Subject, watchers: &Watchers, load: &Load) -> Outcome<Sample> {
    let streams = watchers.streams();
    let warm = load.rate.unwrap_or(100).min(20);
    watchers.forget(true);
    subject.pace(load.rate.unwrap_or(100), warm).await?;
    watchers.heard(streams * u64::from(warm)).await?;
    sleep(SETTLE).await;

    watchers.forget(load.rate.is_some());
    let deliveries = streams * u64::from(load.changes);
    let (cpu, begun) = (subject.cpu()?, Instant::now());
    match load.rate {
        Some(rate) => subject.pace(rate, load.changes).await?,
        None => subject.burst(load.changes).await?,
    }
    watchers.heard(deliveries).await?;
    let took = begun.elapsed();
    // Work after the last byte counts too.
    sleep(SETTLE).await;
    let cpu = subject.cpu()? - cpu;
    let latencies = watchers.latencies();
    let each = |time: Duration| time.as_secs_f64() / as_f64(deliveries);
    Ok(Sample {
        cpu: each(cpu) * 1e6,
        rate: 1.0 / each(took),
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        p999: quantile(&latencies, 0.999),
        max: quantile(&latencies, 1.0),
    })
}

/// Of sorted values; 0 if empty.
fn quantile(sorted: &[u32], q: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of what is between 0 and a length
    let at = ((as_f64(sorted.len() as u64) * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).map_or(0.0, |micros| f64::from(*micros))
}

#[allow(clippy::cast_precision_loss)] // counts
pub(crate) const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The median run by one of the figures.
pub(crate) fn median(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
