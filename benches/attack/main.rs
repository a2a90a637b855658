//! What clients notice while others attack the service.
//!
//! A program, not a timed test. The service is its own process, a hundred clients watch it from this one, and the
//! attackers are a third, with the same priority. Loopback only; ends by itself.

mod attackers;
mod service;
#[path = "../support/mod.rs"]
mod support;
mod watchers;

use std::{
    env,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use attackers::Attack;
use service::{Service, Transport};
use support::Outcome;
use tokio::{
    process::{Child, Command},
    task::LocalSet,
    time::sleep,
};
use watchers::Watchers;

const HELP: &str = "\
What clients notice while others attack the service: 100 watchers, and an operator who adds or
removes a peer 50 times a second. The attackers have no credentials but for waits, unread, syncs,
lists and crowd, which are of one viewer. hello is against TLS, the others are in plaintext.

Usage: cargo bench --bench attack -- [--json] [--quick] [ATTACK]...

  ATTACK    ping, settings, reset, continuation, data, window, priority, zero-window,
            half-closed, silent, bodies, refused, idle, waits, unread, syncs, lists, crowd,
            hello: those alone
  --json    one JSON object a line instead of a table
  --quick   three seconds each instead of ten
  --help    this

Needs open files for both ends of 5,100 connections: `ulimit -n 12000`.";

/// Before an attack is measured it has to be under way, and before the next the last has to be over.
const SETTLE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let [role, address, name, token] = args
        && role == attackers::ROLE
    {
        let attack = Attack::named(name).ok_or("no such attack")?;
        return runtime.block_on(LocalSet::new().run_until(attack.run(address.parse()?, token.clone())));
    }
    // cargo adds an option of its own.
    let known = |arg: &&String| !matches!(arg.as_str(), "--json" | "--quick" | "--bench");
    let named: Option<Vec<Attack>> = args.iter().filter(known).map(|name| Attack::named(name)).collect();
    let named = named.ok_or("an argument is not known; --help shows what there is")?;
    let attacks = if named.is_empty() { attackers::ATTACKS.map(Attack).to_vec() } else { named };
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let length = Duration::from_secs(if has("--quick") { 3 } else { 10 });
    runtime.block_on(LocalSet::new().run_until(measure(&attacks, length, has("--json"))))
}

async fn measure(attacks: &[Attack], length: Duration, json: bool) -> Outcome<()> {
    if !json {
        println!(
            "{:<14} {:>8} {:>8} {:>8} {:>7} {:>8} {:>9} {:>9}",
            "attack", "p50 ms", "p99 ms", "max ms", "× p99", "new ms", "CPU %", "RSS KiB"
        );
    }
    for transport in [Transport::Plaintext, Transport::Tls] {
        let attacks: Vec<_> =
            attacks.iter().copied().filter(|attack| attack.transport() == transport).collect();
        if !attacks.is_empty() {
            measure_over(transport, &attacks, length, json).await?;
        }
    }
    Ok(())
}

/// With a service of its own.
async fn measure_over(transport: Transport, attacks: &[Attack], length: Duration, json: bool) -> Outcome<()> {
    let service = Service::start(transport).await?;
    let watchers = Watchers::open(&service).await?;
    service.change_all_the_time().await?;
    let mut calm = None;
    for attack in std::iter::once(None).chain(attacks.iter().copied().map(Some)) {
        let under_way = attack.map(|attack| start(&service, attack)).transpose()?;
        sleep(SETTLE).await;
        let row = Row::measure(&service, &watchers, length).await?;
        drop(under_way);
        let calm = *calm.get_or_insert(row.p99);
        row.print(attack.map_or("none", |attack| attack.0), row.p99 / calm, json);
        sleep(SETTLE).await;
    }
    watchers.check()
}

/// The process of the attackers. Killed when dropped.
fn start(service: &Service, attack: Attack) -> Outcome<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.args([attackers::ROLE, &service.address.to_string(), attack.0, &service.viewer]);
    Ok(command.stdin(Stdio::null()).kill_on_drop(true).spawn()?)
}

/// What was seen, in milliseconds.
struct Row {
    p50: f64,
    p99: f64,
    max: f64,
    /// The worst time that a new client took from its connection to an answer.
    newcomer: f64,
    /// Of a core.
    cpu: f64,
    /// KiB.
    resident: u64,
}

impl Row {
    async fn measure(service: &Service, watchers: &Watchers, length: Duration) -> Outcome<Self> {
        watchers.take();
        let (cpu, begun) = (service.cpu()?, Instant::now());
        let mut newcomer = Duration::ZERO;
        let mut resident = 0;
        while begun.elapsed() < length {
            newcomer = newcomer.max(service.newcomer().await?);
            resident = service.resident()?.max(resident);
            sleep(Duration::from_millis(200)).await;
        }
        let cpu = (service.cpu()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        let latencies = watchers.take();
        watchers.check()?;
        let quantile = |per_mille: usize| {
            let at = latencies.len().saturating_sub(1) * per_mille / 1000;
            latencies.get(at).map(|latency| ms(*latency)).ok_or("nothing was heard")
        };
        let newcomer = ms(newcomer);
        Ok(Self { p50: quantile(500)?, p99: quantile(990)?, max: quantile(1000)?, newcomer, cpu, resident })
    }

    fn print(&self, name: &str, ratio: f64, json: bool) {
        let Self { p50, p99, max, newcomer, cpu, resident } = self;
        if json {
            let line = serde_json::json!({
                "attack": name, "p50_ms": p50, "p99_ms": p99, "max_ms": max, "p99_ratio": ratio,
                "newcomer_max_ms": newcomer, "cpu_percent": cpu, "resident_kib": resident,
            });
            println!("{line}");
            return;
        }
        println!(
            "{name:<14} {p50:>8.2} {p99:>8.2} {max:>8.2} {ratio:>7.2} {newcomer:>8.1} {cpu:>9.1} {resident:>9}"
        );
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
