//! Records the series of a running service on which tests/helm tests the alerts: `make alert-series`.

use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

use opflex_peerstatus::{
    app::Service,
    sim::{Behaviour, SimPeer},
};
use rustls::DEFAULT_VERSIONS;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::support::{Authority, ClientFiles, TlsFront, numbers, self_signed, server, settings, sim, start};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helm/recorded-series.yaml");
/// A recorded second stands for half a minute. The timers of the service are as much shorter; its pauses between
/// attempts, at most a second, are not.
const SCALE: u32 = 30;
/// One scrape per recorded second: 75 minutes.
const SCRAPES: usize = 151;
const PER_MINUTE: usize = 2;

/// A simulated peer behind TLS.
struct Leaf {
    sim: SimPeer,
    front: TlsFront,
}

impl Leaf {
    async fn start(authority: &Authority, behaviour: Behaviour) -> Self {
        let sim = sim();
        sim.set_behaviour(behaviour);
        let own = server(DEFAULT_VERSIONS, &authority.issue("leaf"), None);
        let front = TlsFront::start(own, sim.address().to_string()).await;
        Self { sim, front }
    }
}

/// The fabric: an anycast address that lists leaves, good and bad.
struct Fabric {
    leaves: BTreeMap<&'static str, Leaf>,
    /// Has its port, and does not listen.
    dead: SimPeer,
}

impl Fabric {
    async fn start(authority: &Authority) -> Self {
        let mut leaves = BTreeMap::new();
        for (name, behaviour) in [
            ("anycast", Behaviour::Normal),
            ("good", Behaviour::Normal),
            ("rebooted", Behaviour::Normal),
            ("flapping", Behaviour::Normal),
            ("badcert", Behaviour::Normal),
            ("rejecting", Behaviour::RejectIdentity),
            ("silent", Behaviour::Silent),
        ] {
            leaves.insert(name, Leaf::start(authority, behaviour).await);
        }
        leaves["badcert"].front.present(server(DEFAULT_VERSIONS, &self_signed("leaf"), None));
        let mut dead = sim();
        dead.stop().await;
        let this = Self { leaves, dead };
        this.list(|_| true);
        this
    }

    /// Names and addresses, the anycast one included.
    fn addresses(&self) -> Vec<(&'static str, String)> {
        let leaves = self.leaves.iter().map(|(name, leaf)| (*name, leaf.front.address()));
        leaves.chain([("dead", self.dead.address().to_string())]).collect()
    }

    /// All list these leaves.
    fn list(&self, is_listed: impl Fn(&str) -> bool) {
        let listed = self.addresses().into_iter().filter(|(name, _)| *name != "anycast" && is_listed(name));
        let listed: Vec<_> = listed
            .map(|(_, address)| {
                address.rsplit_once(':').map(|(h, p)| (h.to_owned(), p.parse().unwrap())).unwrap()
            })
            .collect();
        self.leaves.values().for_each(|leaf| leaf.sim.set_peers(listed.clone()));
    }

    /// What happens to it before that scrape.
    fn play(&self, scrape: usize) {
        let flapping = &self.leaves["flapping"].sim;
        if (10 * PER_MINUTE..55 * PER_MINUTE).contains(&scrape) && scrape.is_multiple_of(9 * PER_MINUTE) {
            flapping.drop_connections();
        }
        let rebooted = &self.leaves["rebooted"].sim;
        if scrape == 15 * PER_MINUTE {
            rebooted.set_behaviour(Behaviour::RejectIdentity);
            rebooted.drop_connections();
        }
        if scrape == 18 * PER_MINUTE {
            rebooted.set_behaviour(Behaviour::Normal);
        }
        if scrape == 60 * PER_MINUTE {
            self.leaves["rejecting"].sim.set_behaviour(Behaviour::Normal);
            self.list(|name| name != "dead");
            // It gets the new list when it connects again.
            self.leaves["good"].sim.drop_connections();
        }
    }
}

#[tokio::test]
#[ignore = "takes two and a half minutes and replaces tests/helm/recorded-series.yaml"]
async fn record() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let fabric = Fabric::start(&authority).await;
    let mut config = settings(&[fabric.leaves["anycast"].front.address()]);
    let pool = &mut config.pools[0];
    pool.tls = files.trust(&authority);
    let timers = &mut pool.timers;
    for timer in [&mut timers.connect, &mut timers.handshake, &mut timers.keepalive, &mut timers.echo] {
        *timer /= SCALE;
    }
    let service = start(config).await.expect("the service starts");
    let series = scrapes(&service, &fabric).await;
    fs::write(FILE, page(&series)).expect("the file is written");
}

/// Plays, and returns the values of each series, by scrape.
async fn scrapes(service: &Service, fabric: &Fabric) -> BTreeMap<String, Vec<Option<f64>>> {
    let admin = service.admin_address().expect("an admin port");
    let names: BTreeMap<_, _> =
        fabric.addresses().into_iter().map(|(name, address)| (address, format!("{name}:8009"))).collect();
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut series = BTreeMap::<String, Vec<Option<f64>>>::new();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let first = Instant::now();
    for scrape in 0..SCRAPES {
        ticks.tick().await;
        fabric.play(scrape);
        for (key, value) in numbers(admin).await {
            let Some(key) = recorded(&key, &names) else { continue };
            let is_time = key.contains("_timestamp_seconds");
            let value = if is_time { ((value - started).max(0.0) * f64::from(SCALE)).round() } else { value };
            let values = series.entry(key).or_default();
            values.resize(scrape, None);
            values.push(Some(value));
        }
        assert!(
            first.elapsed() < Duration::from_secs(scrape as u64 + 1),
            "too slow: the times would be wrong"
        );
    }
    series
}

/// The series as it is recorded: with stable names of peers, and a label that Prometheus would add.
fn recorded(series: &str, names: &BTreeMap<String, String>) -> Option<String> {
    let is_peers = ["opflex_peer_", "opflex_pool_"].iter().any(|prefix| series.starts_with(prefix));
    let is_other =
        ["_bucket{", "_sum{", "_count{", "_transitions_", "_rtt_"].iter().any(|part| series.contains(part));
    if !is_peers || is_other {
        return None;
    }
    let named = names.iter().fold(series.to_owned(), |series, (address, name)| series.replace(address, name));
    Some(named.replacen('{', "{instance=\"i\",", 1))
}

fn page(series: &BTreeMap<String, Vec<Option<f64>>>) -> String {
    let mut page =
        "# Recorded from a running service by `make alert-series`: do not edit. A sample each 30 s.\n"
            .to_owned();
    for (name, values) in series {
        let _ = writeln!(page, "- series: '{name}'\n  values: '{}'", notation(values));
    }
    page
}

/// In the notation of promtool: `1x3` is four times 1, `_x3` three times nothing.
fn notation(values: &[Option<f64>]) -> String {
    let mut parts = Vec::new();
    let mut rest = values.to_vec();
    // A series that ends is stale from the next scrape on.
    rest.resize(SCRAPES, None);
    let mut previous = None;
    for run in rest.chunk_by(|left, right| left == right) {
        match (run[0], run.len()) {
            (Some(value), 1) => parts.push(value.to_string()),
            (Some(value), length) => parts.push(format!("{value}x{}", length - 1)),
            (None, length) => {
                let missing = length - usize::from(previous.is_some());
                parts.extend(previous.map(|_| "stale".to_owned()));
                parts.extend((missing > 0).then(|| format!("_x{missing}")));
            }
        }
        previous = run[0];
    }
    parts.join(" ")
}
