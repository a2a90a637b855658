//! A stand-in for an opflex-agent, and its container runtime: this process.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    select,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::support::Outcome;

/// What the kubelet sets by default.
const MAX_FILE: u64 = 10 << 20;
const ROTATED: u32 = 4;

/// Of the agent's first container.
const LOG: &str = "0.log";
const SECOND: Duration = Duration::from_secs(1);

/// What other parts of an agent write, at the levels info and debug.
const OTHERS: [&str; 4] = [
    "[debug] [CommunicationPeer.cpp:220:write] {0x7fa594002140}[3];handle@0x7fa594002158;HD:0x7fa594002140]",
    "[info] [IntFlowManager.cpp:2312:handleEndpointUpdate] Updating endpoint 4f6d9d1c-7c1b-4c62-a0b5-8e1e0b1c2d3f",
    "[debug] [EndpointManager.cpp:612:updateEndpointLocal] Endpoint veth7a1c updated: EPG comp|prov|web, BD bd-1",
    "[debug] [PolicyStatsManager.cpp:118:on_timer] Handling flow statistics: 214 entries, 3 changed",
];

/// An agent that has not started yet.
pub(crate) struct Agent {
    folder: PathBuf,
    peers: Vec<SocketAddr>,
    lines: u32,
}

/// It runs. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    runtime: JoinHandle<io::Result<u32>>,
    folder: PathBuf,
}

impl Agent {
    /// Makes its log, which is empty.
    pub(crate) fn new(peers: &[SocketAddr], lines: u32) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("peerstatus-bench-{:016x}", fastrand::u64(..)));
        fs::create_dir(&folder)?;
        File::create(folder.join(LOG))?;
        Ok(Self { folder, peers: peers.to_vec(), lines })
    }

    /// The pool that observes it.
    pub(crate) fn pool(&self) -> String {
        let port = self.peers.first().map_or(0, SocketAddr::port);
        format!(
            "[[pool]]\nname = \"agent\"\nsource = \"agent\"\nlog = \"{}/*.log\"\npeer_port = {port}\n",
            self.folder.display()
        )
    }

    pub(crate) fn start(self) -> Outcome<Running> {
        let peers = self.peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        command.args(["simulate", "--agent-log", "-", "--agent-peers", &peers]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let runtime = tokio::spawn(relay(output, Log::open(&self.folder)?, self.lines));
        Ok(Running { child, runtime, folder: self.folder })
    }
}

impl Running {
    /// Asks it to stop. Returns how often its log was rotated.
    pub(crate) async fn stop(&mut self) -> Outcome<u32> {
        let id = self.child.id().ok_or("the agent ended")?;
        Command::new("kill").arg(id.to_string()).status().await?;
        Ok((&mut self.runtime).await??)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes what the agent writes, and lines of its other parts in between, until its output ends.
async fn relay(mut output: Lines<BufReader<ChildStdout>>, mut log: Log, lines: u32) -> io::Result<u32> {
    let mut ticks = interval(SECOND / lines.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut others = OTHERS.iter().cycle();
    loop {
        select! {
            line = output.next_line() => match line? {
                Some(line) => log.write(&line)?,
                None => return Ok(log.rotations),
            },
            _ = ticks.tick(), if lines > 0 => {
                let other = others.next().copied().unwrap_or_default();
                log.write(&format!("[{}] {other}", written(SystemTime::now())))?;
            }
        }
    }
}

/// As Boost.Log writes it.
fn written(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = humantime::format_rfc3339_micros(time).to_string();
    let (date, time) = text.trim_end_matches('Z').split_once('T').unwrap_or_default();
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (parts.next(), parts.next(), parts.next());
    let month = month.and_then(|month| MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?));
    format!("{}-{}-{} {time}", year.unwrap_or_default(), month.unwrap_or(&""), day.unwrap_or_default())
}

/// The log of a container, framed and rotated as on a node.
struct Log {
    folder: PathBuf,
    file: File,
    length: u64,
    rotations: u32,
}

impl Log {
    fn open(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(folder.join(LOG))?;
        Ok(Self { folder: folder.to_owned(), file, length: 0, rotations: 0 })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{} stdout F {line}\n", humantime::format_rfc3339_nanos(SystemTime::now()));
        self.file.write_all(line.as_bytes())?;
        self.length += line.len() as u64;
        if self.length > MAX_FILE { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.rotations += 1;
        let renamed = |number| self.folder.join(format!("{LOG}.20260101-{number:06}"));
        fs::rename(self.folder.join(LOG), renamed(self.rotations))?;
        if let Some(old) = self.rotations.checked_sub(ROTATED) {
            let _ = fs::remove_file(renamed(old));
        }
        let rotations = self.rotations;
        *self = Self { rotations, ..Self::open(&self.folder)? };
        Ok(())
    }
}
