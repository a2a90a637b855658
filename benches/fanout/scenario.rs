//! The measurements, and their evaluation.

use super::{
    continuity,
    measure::{self, Sample, as_f64, median},
    report::Report,
    subject::{Subject, Who},
    support::Outcome,
    watchers::{Watchers, stuck},
};

/// Command line options.
#[derive(Clone)]
pub(crate) struct Plan {
    names: Vec<String>,
    only: Vec<Who>,
    peers: bool,
    rounds: usize,
    seconds: u32,
    soak: Option<u32>,
    json: bool,
    /// Settings to try, for our server.
    ours: String,
}

/// Clients and changes of a measurement.
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    /// Changes per second; `None` for a burst.
    pub(crate) rate: Option<u32>,
    pub(crate) changes: u32,
}

const NAMES: [&str; 10] =
    ["spread", "wide", "streams", "burst", "lone", "paced", "stuck", "continuity", "growth", "memory"];

impl Plan {
    /// `None` if help is requested.
    pub(crate) fn parse(args: &[String]) -> Outcome<Option<Self>> {
        let mut plan = Self {
            names: Vec::new(),
            only: Who::ALL.to_vec(),
            peers: false,
            rounds: 3,
            seconds: 6,
            soak: None,
            json: false,
            ours: String::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                // Cargo passes it to every benchmark.
                "--bench" => {}
                "--peers" => plan.peers = true,
                "--json" => plan.json = true,
                "--quick" => (plan.rounds, plan.seconds) = (1, 2),
                "--rounds" => plan.rounds = value()?.parse()?,
                "--soak" => plan.soak = Some(value()?.parse()?),
                "--ours" => plan.ours.clone_from(value()?),
                "--only" => plan.only = value()?.split(',').map(who).collect::<Outcome<_>>()?,
                name if NAMES.contains(&name) => plan.names.push(name.to_owned()),
                _ => return Err(format!("{arg:?} is no scenario and no option").into()),
            }
        }
        if plan.names.is_empty() {
            plan.names = NAMES.map(str::to_owned).to_vec();
        }
        let wanted = |who: &Who| Who::BASIC.contains(who) || plan.peers;
        plan.only.retain(|who| wanted(who) && who.is_here());
        Ok(Some(plan))
    }

    fn has(&self, who: Who) -> bool {
        self.only.contains(&who)
    }
}

fn who(name: &str) -> Outcome<Who> {
    Who::ALL.into_iter().find(|who| who.name() == name).ok_or_else(|| format!("{name:?} is nobody").into())
}

pub(crate) async fn run(plan: Plan) -> Outcome<()> {
    let report = Report { json: plan.json };
    for name in &plan.names {
        match name.as_str() {
            "spread" => compare(&plan, &report, name, &paced(&plan, 100, 1, 500), &Who::ALL).await?,
            "wide" => compare(&plan, &report, name, &paced(&plan, 1_000, 1, 20), &Who::ALL).await?,
            "streams" => {
                compare(&plan, &report, name, &paced(&plan, 10, 100, 100), &[Who::Naive, Who::Ours]).await?;
            }
            "burst" => {
                let load = Load { connections: 100, streams: 1, rate: None, changes: 5_000 };
                compare(&plan, &report, name, &load, &[Who::Naive, Who::Ours]).await?;
            }
            "lone" => {
                let load = Load { connections: 100, streams: 1, rate: Some(5), changes: plan.seconds * 10 };
                compare(&plan, &report, name, &load, &[Who::Naive, Who::Ours]).await?;
            }
            "paced" => compare(&plan, &report, name, &paced(&plan, 1, 1, 300), &[Who::Ours]).await?,
            "stuck" => beside_a_stuck_one(&plan, &report).await?,
            "growth" => growth(&plan, &report).await?,
            "continuity" => continuity(&plan, &report).await?,
            _ => memory(&plan, &report).await?,
        }
    }
    if let Some(minutes) = plan.soak {
        soak(&plan, &report, minutes).await?;
    }
    Ok(())
}

fn paced(plan: &Plan, connections: usize, streams: usize, rate: u32) -> Load {
    Load { connections, streams, rate: Some(rate), changes: plan.seconds * rate }
}

/// All do the same, in turn.
async fn compare(plan: &Plan, report: &Report, name: &str, load: &Load, among: &[Who]) -> Outcome<()> {
    let chosen: Vec<Who> = among.iter().copied().filter(|who| plan.has(*who)).collect();
    let mut samples = vec![Vec::new(); chosen.len()];
    for _ in 0..plan.rounds {
        for (who, samples) in chosen.iter().zip(&mut samples) {
            samples.push(measure::load(*who, load, &plan.ours).await?);
        }
    }
    let rows: Vec<(Who, Sample)> = chosen.into_iter().zip(samples.iter().map(|of| middle(of))).collect();
    report.compare(name, load, &rows);
    Ok(())
}

fn middle(samples: &[Sample]) -> Sample {
    Sample {
        cpu: median(samples, |sample| sample.cpu),
        rate: median(samples, |sample| sample.rate),
        p50: median(samples, |sample| sample.p50),
        p99: median(samples, |sample| sample.p99),
        p999: median(samples, |sample| sample.p999),
        max: median(samples, |sample| sample.max),
    }
}

/// How the cost of a delivery grows with clients, changes and peers.
async fn growth(plan: &Plan, report: &Report) -> Outcome<()> {
    for (connections, rate) in [(10, 2_000), (10, 20), (100, 200), (1_000, 20), (10_000, 2)] {
        let load = paced(plan, connections, 1, rate);
        compare(plan, report, "growth", &load, &[Who::Ours]).await?;
    }
    let plan = &Plan { ours: format!("{},peers=10000", plan.ours), ..plan.clone() };
    compare(plan, report, "growth, 10,000 peers", &paced(plan, 100, 1, 200), &[Who::Ours]).await
}

/// A thousand clients with and without one that never reads, in turn on one server.
async fn beside_a_stuck_one(plan: &Plan, report: &Report) -> Outcome<()> {
    let load = paced(plan, 1_000, 1, 20);
    let mut subject = Subject::start(Who::Ours, &plan.ours).await?;
    let watchers = Watchers::open(Who::Ours.protocol(), subject.address(), 1_000, 1).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        without.push(measure::run(&mut subject, &watchers, &load).await?);
        let _stuck = stuck(subject.address()).await?;
        with.push(measure::run(&mut subject, &watchers, &load).await?);
    }
    report.beside_a_stuck_one(&middle(&without), &middle(&with));
    Ok(())
}

/// Whether a client that resumes repeatedly misses nothing, beside a hundred others.
async fn continuity(plan: &Plan, report: &Report) -> Outcome<()> {
    let mut subject = Subject::start(Who::Ours, &plan.ours).await?;
    let address = subject.address();
    let watchers = Watchers::open(Who::Ours.protocol(), address, 100, 1).await?;
    let load = paced(plan, 100, 1, 500);
    // A heartbeat a second, and some of them before and after.
    let client = continuity::watch(address, u64::from(plan.seconds) + 2);
    let (sample, seen) = tokio::join!(measure::run(&mut subject, &watchers, &load), client);
    sample?;
    report.continuity(&seen?);
    Ok(())
}

/// Memory of a watch, on its own connection and as a further stream of one.
async fn memory(plan: &Plan, report: &Report) -> Outcome<()> {
    const CONNECTIONS: usize = 1_000;
    // Enough that fixed costs of the server do not matter.
    const SHARED: usize = 50;
    const STREAMS: usize = 100;
    for who in Who::ALL.into_iter().filter(|who| *who != Who::Raw && plan.has(*who)) {
        let mut subject = Subject::start(who, &plan.ours).await?;
        // Fixed costs: threads, tables, code.
        let first = Watchers::open(who.protocol(), subject.address(), 10, 1).await?;
        let load = Load { connections: CONNECTIONS, streams: 1, rate: Some(20), changes: 20 };
        measure::run(&mut subject, &first, &load).await?;
        let before = subject.resident()?;
        let own = Watchers::open(who.protocol(), subject.address(), CONNECTIONS, 1).await?;
        measure::run(&mut subject, &own, &load).await?;
        let connected = subject.resident()?;
        let further = if matches!(who, Who::Naive | Who::Ours) {
            // On other connections, whose first stream is not counted.
            let mut shared = Watchers::open(who.protocol(), subject.address(), SHARED, 1).await?;
            measure::run(&mut subject, &shared, &load).await?;
            let before = subject.resident()?;
            shared.add(who.protocol(), subject.address(), SHARED, STREAMS).await?;
            measure::run(&mut subject, &shared, &load).await?;
            Some(each(before, subject.resident()?, SHARED * STREAMS))
        } else {
            None
        };
        report.memory(who, each(before, connected, CONNECTIONS), further);
    }
    Ok(())
}

fn each(before: u64, after: u64, count: usize) -> f64 {
    as_f64(after.saturating_sub(before)) / as_f64(count as u64)
}

/// Ten thousand watchers for a long time.
async fn soak(plan: &Plan, report: &Report, minutes: u32) -> Outcome<()> {
    const WATCHERS: usize = 10_000;
    let mut subject = Subject::start(Who::Ours, &plan.ours).await?;
    let watchers = Watchers::open(Who::Ours.protocol(), subject.address(), WATCHERS, 1).await?;
    let load = Load { connections: WATCHERS, streams: 1, rate: Some(2), changes: 120 };
    for minute in 1..=minutes {
        let sample = measure::run(&mut subject, &watchers, &load).await?;
        report.soak(minute, subject.resident()?, &sample);
    }
    Ok(())
}
