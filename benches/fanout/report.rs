//! Output: tables, or one JSON object per line.

use serde_json::{Value, json};

use super::{continuity::Seen, measure::Sample, scenario::Load, subject::Who};

pub(crate) struct Report {
    pub(crate) json: bool,
}

impl Report {
    /// Compares the cost of the same work.
    pub(crate) fn compare(&self, name: &str, load: &Load, rows: &[(Who, Sample)]) {
        let of = |who: Who| rows.iter().find(|(is, _)| *is == who).map(|(_, sample)| sample);
        if !self.json {
            let Load { connections, streams, .. } = load;
            let what = load.rate.map_or_else(
                || format!("a burst of {} changes", load.changes),
                |rate| format!("{rate} changes/s"),
            );
            println!("\n{name}: {connections} connections × {streams} streams, {what}");
            println!(
                "  {:<6} {:>9} {:>8} {:>8} {:>11} {:>8} {:>8} {:>8} {:>8}",
                "", "µs/each", "× raw", "× naive", "each/s", "p50 ms", "p99", "p99.9", "max"
            );
        }
        for (who, sample) in rows {
            let to = |other: Who| of(other).map(|other| sample.cpu / other.cpu);
            if self.json {
                self.line(&json!({
                    "scenario": name, "who": who.name(), "connections": load.connections,
                    "streams": load.streams, "changes_per_second": load.rate, "changes": load.changes,
                    "cpu_us_per_delivery": sample.cpu, "to_raw": to(Who::Raw), "to_naive": to(Who::Naive),
                    "deliveries_per_second": sample.rate, "p50_ms": ms(sample.p50), "p99_ms": ms(sample.p99),
                    "p999_ms": ms(sample.p999), "max_ms": ms(sample.max),
                }));
                continue;
            }
            let ratio = |to: Option<f64>| to.map_or_else(|| "–".to_owned(), |to| format!("{to:.2}"));
            println!(
                "  {who:<6} {:>9.2} {:>8} {:>8} {:>11.0} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
                sample.cpu,
                ratio(to(Who::Raw)),
                ratio(to(Who::Naive)),
                sample.rate,
                ms(sample.p50),
                ms(sample.p99),
                ms(sample.p999),
                ms(sample.max),
            );
        }
    }

    pub(crate) fn beside_a_stuck_one(&self, without: &Sample, with: &Sample) {
        if self.json {
            return self.line(&json!({
                "scenario": "stuck", "p99_ms_without": ms(without.p99), "p99_ms_with": ms(with.p99),
                "ratio": with.p99 / without.p99,
            }));
        }
        println!("\nstuck: 1,000 connections, 20 changes/s, beside one that never reads");
        println!(
            "  p99 {:.2} ms without it, {:.2} ms with it: × {:.2}",
            ms(without.p99),
            ms(with.p99),
            with.p99 / without.p99
        );
    }

    pub(crate) fn continuity(&self, seen: &Seen) {
        let Seen { changes, compared, resumed } = seen;
        if self.json {
            return self.line(&json!({
                "scenario": "continuity", "changes": changes, "compared": compared, "resumed": resumed, "gaps": 0,
            }));
        }
        println!("\ncontinuity: 100 connections, 500 changes/s, beside a client that compares and resumes");
        println!("  {changes} changes, {resumed} times resumed, {compared} times compared: no gap");
    }

    pub(crate) fn memory(&self, who: Who, own: f64, further: Option<f64>) {
        if self.json {
            return self.line(&json!({
                "scenario": "memory", "who": who.name(), "kib_per_connection": own,
                "kib_per_further_stream": further,
            }));
        }
        let further = further.map_or_else(String::new, |kib| format!(", {kib:.2} KiB per further stream"));
        println!("memory: {who:<6} {own:.1} KiB per watcher with a connection of its own{further}");
    }

    pub(crate) fn soak(&self, minute: u32, resident: u64, sample: &Sample) {
        if self.json {
            return self.line(&json!({
                "scenario": "soak", "minute": minute, "resident_kib": resident,
                "cpu_us_per_delivery": sample.cpu, "p99_ms": ms(sample.p99),
            }));
        }
        println!(
            "soak: minute {minute}: {resident} KiB resident, {:.2} µs per delivery, p99 {:.1} ms",
            sample.cpu,
            ms(sample.p99)
        );
    }

    #[allow(clippy::unused_self)] // so that what prints is the report
    fn line(&self, value: &Value) {
        println!("{value}");
    }
}

fn ms(micros: f64) -> f64 {
    micros / 1000.0
}
