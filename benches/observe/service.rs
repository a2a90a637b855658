//! The service as a process.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio, time::Duration};

use opflex_peerstatus::api::pb::{ListPeersRequest, pool_service_client::PoolServiceClient};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::support::{self, Outcome};

/// The service. Killed when dropped.
pub(crate) struct Service {
    pub(crate) what: String,
    child: Child,
    config: PathBuf,
    address: String,
}

impl Service {
    /// Starts it with this pool.
    pub(crate) async fn start(what: &str, pool: &str) -> Outcome<Self> {
        let config = std::env::temp_dir().join(format!("peerstatus-bench-{:016x}.toml", fastrand::u64(..)));
        fs::write(&config, format!("[log]\nlevel = \"error\"\n{pool}"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--config"]).arg(&config);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let line = lines.next_line().await?.ok_or("the service ended")?;
        let address = line.strip_prefix("listening on ").ok_or("the service is not ready")?.to_owned();
        Ok(Self { what: what.to_owned(), child, config, address })
    }

    /// How many peers have each status, and why that is believed.
    pub(crate) async fn peers(&self) -> Outcome<String> {
        let mut client = PoolServiceClient::connect(format!("http://{}", self.address)).await?;
        let listed = client.list_peers(ListPeersRequest::default()).await?.into_inner().peers;
        let mut counts = BTreeMap::new();
        for peer in &listed {
            let what = format!("{} {}", peer.status().as_str_name(), peer.evidence().as_str_name());
            *counts.entry(what).or_insert(0) += 1;
        }
        Ok(format!("{} peers {counts:?}", listed.len()))
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        support::resident(self.id()?)
    }

    /// Processor time used until now.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        support::cpu(self.id()?)
    }

    fn id(&self) -> Outcome<u32> {
        Ok(self.child.id().ok_or("the service ended")?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
    }
}
