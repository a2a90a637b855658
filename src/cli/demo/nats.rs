//! A nats-server for the demonstration of a fleet.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::cli::exit::Failure;

/// The first version with a time to live for each message.
const OLDEST: (u32, u32) = (2, 11);
/// Where our Makefile installs it.
const OWN_TOOLS: &str = ".tools/bin";
/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A running server with a store of its own. Dropping it kills it and removes the store.
pub(super) struct NatsServer {
    url: String,
    child: Child,
    _folder: TempDir,
}

/// The file in which it writes its addresses.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl NatsServer {
    /// Starts the first one in `PATH` or `.tools/bin` that is new enough, on a port that the system chooses.
    pub(super) async fn start() -> Result<Self, Failure> {
        let program = find().await?;
        let folder = tempfile::Builder::new().prefix("peerstatus-demo-").tempdir()?;
        let mut command = Command::new(&program);
        command.args(["-js", "-a", "127.0.0.1", "-p", "-1", "-sd"]).arg(folder.path());
        command.arg("--ports_file_dir").arg(folder.path());
        // Ctrl-C is for us: the nodes still publish that they stop.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let name = format!("nats-server_{}.ports", child.id().unwrap_or_default());
        let url = timeout(START_TIMEOUT, first_address(&folder.path().join(name))).await;
        let url = url.with_context(|| format!("{} does not start", program.display()))?;
        Ok(Self { url, child, _folder: folder })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Ends it.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await.context("cannot stop nats-server")?)
    }
}

async fn first_address(ports: &Path) -> String {
    loop {
        let known = fs::read(ports).ok().and_then(|text| serde_json::from_slice::<Ports>(&text).ok());
        if let Some(url) = known.and_then(|ports| ports.nats.into_iter().next()) {
            return url;
        }
        sleep(CHECK_INTERVAL).await;
    }
}

/// The first program that is new enough.
async fn find() -> Result<PathBuf, Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from(OWN_TOOLS)]);
    let mut old = None;
    for program in folders.map(|folder| folder.join("nats-server")).filter(|program| program.is_file()) {
        match version(&program).await {
            Some(version) if version >= OLDEST => return Ok(program),
            version => old = old.or(Some((program, version))),
        }
    }
    let (major, minor) = OLDEST;
    let found = match old {
        None => format!("there is no nats-server in PATH or {OWN_TOOLS}"),
        Some((program, Some((major, minor)))) => format!("{} is {major}.{minor}", program.display()),
        Some((program, None)) => format!("{} does not tell its version", program.display()),
    };
    Err(Failure::Usage(format!(
        "--fleet needs nats-server {major}.{minor} or newer, and {found}; \
         `go install github.com/nats-io/nats-server/v2@latest`, or https://nats.io/download"
    )))
}

/// `nats-server: v2.15.3`
async fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().await.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let numbers = text.trim().strip_prefix("nats-server: v")?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_server_prints() {
        assert_eq!(parse_version("nats-server: v2.15.3\n"), Some((2, 15)));
        assert_eq!(parse_version("nats-server: v2.12.0-preview.1"), Some((2, 12)));
        assert!(parse_version("nats-server: v2.9.10").is_some_and(|version| version < OLDEST));
        assert_eq!(parse_version("version"), None);
    }
}
