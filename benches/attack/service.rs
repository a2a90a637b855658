//! The service as a process, and an operator who changes something all the time.

use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use opflex_peerstatus::api::pb::{
    AddPeerRequest, GetPoolRequest, RemovePeerRequest, pool_service_client::PoolServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::spawn_local,
    time::{MissedTickBehavior, interval, timeout},
};

use super::support::{self, Outcome};

/// Between two changes that the operator asks for.
const TICK: Duration = Duration::from_millis(20);
/// No new client has to wait longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service. Killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Service {
    pub(crate) async fn start() -> Outcome<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error"]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let line = lines.next_line().await?.ok_or("the service ended")?;
        let address = line.strip_prefix("listening on ").ok_or("the service is not ready")?.parse()?;
        Ok(Self { child, address })
    }

    /// Adds a peer, removes it, and so on.
    pub(crate) async fn change_all_the_time(&self) -> Outcome<()> {
        let mut client = PoolServiceClient::connect(self.url()).await?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        spawn_local(async move {
            loop {
                tick.tick().await;
                let parent = "pools/default".to_owned();
                // Nobody listens there.
                let add = AddPeerRequest { parent, host: "127.0.0.1".to_owned(), port: 1 };
                let _ = client.add_peer(add).await;
                tick.tick().await;
                let name = "pools/default/peers/127.0.0.1:1".to_owned();
                let _ = client.remove_peer(RemovePeerRequest { name }).await;
            }
        });
        Ok(())
    }

    /// How long it takes a new client to be answered.
    pub(crate) async fn newcomer(&self) -> Outcome<Duration> {
        let begun = Instant::now();
        timeout(PATIENCE, async {
            let mut client = PoolServiceClient::connect(self.url()).await?;
            client.get_pool(GetPoolRequest { name: "pools/default".to_owned() }).await?;
            Ok(begun.elapsed())
        })
        .await?
    }

    pub(crate) fn resident(&self) -> Outcome<u64> {
        support::resident(self.id()?)
    }

    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        support::cpu(self.id()?)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn id(&self) -> Outcome<u32> {
        Ok(self.child.id().ok_or("the service ended")?)
    }
}
