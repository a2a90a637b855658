//! The measurements.

use std::time::{Duration, Instant};

use opflex_peerstatus::sim::{SimConfig, SimPeer};
use tokio::time::sleep;

use super::{peers::Peers, service::Service, support::Outcome};

/// One measured value, with what it is compared to.
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    /// What issue and design aim at: at most this.
    target: Option<f64>,
    /// What libopflex 2.7.0 was measured to do.
    reference: Option<f64>,
}

impl Figure {
    fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, target: None, reference: None }
    }

    fn ms(what: impl Into<String>, value: Duration) -> Self {
        Self::new(what, value.as_secs_f64() * 1000.0, "ms")
    }

    fn target(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    fn reference(self, reference: f64) -> Self {
        Self { reference: Some(reference), ..self }
    }

    pub(crate) fn print_head() {
        println!("{:<58} {:>10} {:>10} {:>12}  unit", "what", "measured", "at most", "reference");
    }

    pub(crate) fn print(self, json: bool) {
        let Self { what, value, unit, target, reference } = self;
        if json {
            let line = serde_json::json!({
                "what": what, "value": value, "unit": unit, "target": target, "reference": reference,
            });
            println!("{line}");
            return;
        }
        let cell =
            |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| format!("{number:.1}"));
        let mark = if target.is_some_and(|target| value > target) { "  MISSED" } else { "" };
        println!("{what:<58} {value:>10.1} {:>10} {:>12}  {unit}{mark}", cell(target), cell(reference));
    }
}

/// All peers are up when the service starts; then their process is killed.
pub(crate) async fn cold_start_and_mass_death(count: usize) -> Outcome<Vec<Figure>> {
    let mut peers = Peers::start(count).await?;
    let begun = Instant::now();
    let mut service = Service::start(&peers.addresses).await?;
    let up = service.until(|seen| seen.ready == count).await?;
    let killed = Instant::now();
    peers.kill().await?;
    let down = service.until(|seen| seen.lost >= count).await?;
    let cold = Figure::ms(format!("{count} peers: cold start to all READY"), up - begun);
    let died = Figure::ms(format!("{count} peers killed: last report"), down - killed);
    // The reference, measured without its start: 25 and 57 ms to come up, 9 and 12 ms to notice.
    let (came_up, noticed) = if count == 50 { (25.0, 9.0) } else { (57.0, 12.0) };
    Ok(vec![cold.reference(came_up), died.reference(noticed)])
}

/// One peer among twenty is killed, again and again.
pub(crate) async fn one_death() -> Outcome<Figure> {
    const TIMES: usize = 20;
    let mut single = Vec::new();
    for _ in 0..TIMES {
        single.push(Peers::start(1).await?);
    }
    let addresses: Vec<String> = single.iter().flat_map(|peers| peers.addresses.clone()).collect();
    let mut service = Service::start(&addresses).await?;
    service.until(|seen| seen.ready == TIMES).await?;
    let mut worst = Duration::ZERO;
    for (index, peers) in single.iter_mut().enumerate() {
        let killed = Instant::now();
        peers.kill().await?;
        let told = service.until(|seen| seen.lost > index).await?;
        worst = worst.max(told - killed);
    }
    Ok(Figure::ms(format!("one peer killed: on the stream (worst of {TIMES})"), worst).target(15.0))
}

/// Some peers are dead for good; others come up after ten seconds.
pub(crate) async fn late_among_dead(dead: usize, late: usize) -> Outcome<Figure> {
    let mut peers = Peers::start(dead + late).await?;
    peers.down(0..dead + late).await?;
    let mut service = Service::start(&peers.addresses).await?;
    sleep(Duration::from_secs(10)).await;
    peers.up(dead..dead + late).await?;
    let begun = Instant::now();
    let up = service.until(|seen| seen.ready == late).await?;
    let what = format!("{dead} dead for good, {late} come up late: all {late} READY");
    // The reference: 3 of 10 never, within 540 s.
    Ok(Figure::ms(what, up - begun).target(2_000.0).reference(540_000.0))
}

/// All peers die, stay dead for a while and come back.
pub(crate) async fn return_of_all(count: usize, dead_for: Duration) -> Outcome<Figure> {
    let mut peers = Peers::start(count).await?;
    let mut service = Service::start(&peers.addresses).await?;
    service.until(|seen| seen.ready == count).await?;
    peers.down(0..count).await?;
    service.until(|seen| seen.ready == 0).await?;
    sleep(dead_for).await;
    peers.up(0..count).await?;
    let begun = Instant::now();
    let up = service.until(|seen| seen.ready == count).await?;
    let what = format!("{count} peers dead for {} s, then up: all READY", dead_for.as_secs());
    Ok(Figure::ms(what, up - begun).target(2_000.0).reference(250_000.0))
}

/// A leaf behind an anycast address dies, and the fabric lists another in its place.
pub(crate) async fn successor() -> Outcome<Figure> {
    let start = || SimPeer::start(SimConfig::default());
    let (anycast, leaf, mut dying, successor) = (start()?, start()?, start()?, start()?);
    let list = |peers: [&SimPeer; 2]| -> Vec<(String, u16)> {
        peers.map(|peer| (peer.address().ip().to_string(), peer.address().port())).to_vec()
    };
    let set = |listed: &[(String, u16)]| {
        for peer in [&anycast, &leaf, &successor] {
            peer.set_peers(listed.to_vec());
        }
    };
    dying.set_peers(list([&leaf, &dying]));
    set(&list([&leaf, &dying]));
    let mut service = Service::start(&[anycast.address().to_string()]).await?;
    service.until(|seen| seen.ready == 2).await?;
    // A peer that was READY for less than 10 s is dialled more slowly.
    sleep(Duration::from_secs(11)).await;
    let died = Instant::now();
    dying.stop().await;
    set(&list([&leaf, &successor]));
    service.until(|seen| seen.ready == 1).await?;
    let up = service.until(|seen| seen.ready == 2).await?;
    // The reference: 4 to 8 s.
    let what = "a leaf dies behind an anycast address: its successor READY";
    Ok(Figure::ms(what, up - died).target(4_000.0).reference(6_000.0))
}

/// A very large pool: how it starts, and what it costs when nothing happens.
pub(crate) async fn many(count: usize, idle: Duration) -> Outcome<Vec<Figure>> {
    let peers = Peers::start(count).await?;
    let empty = {
        let mut service = Service::start(&[]).await?;
        service.until(|_| true).await?;
        sleep(Duration::from_secs(1)).await;
        service.resident()?
    };
    let begun = Instant::now();
    let mut service = Service::start(&peers.addresses).await?;
    let up = service.until(|seen| seen.ready == count).await?;
    sleep(Duration::from_secs(20)).await;
    let resident = service.resident()?;
    let used = service.cpu()?;
    sleep(idle).await;
    let used = service.cpu()? - used;
    #[allow(clippy::cast_precision_loss)] // kilobytes and thousands of peers
    let each = resident.saturating_sub(empty) as f64 / count as f64;
    let percent = used.as_secs_f64() / idle.as_secs_f64() * 100.0;
    Ok(vec![
        Figure::ms(format!("{count} peers: cold start to all READY"), up - begun).target(5_000.0),
        Figure::new(format!("{count} peers: resident memory per READY peer"), each, "KiB").target(12.0),
        Figure::new(format!("{count} peers: processor when idle"), percent, "% of a core").target(2.0),
    ])
}
