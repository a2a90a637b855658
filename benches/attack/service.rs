//! The service as a process, and an operator who changes something all the time.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use opflex_peerstatus::{
    api::pb::{AddPeerRequest, GetPoolRequest, RemovePeerRequest, pool_service_client::PoolServiceClient},
    auth::{AccessRole, NewToken},
    sim::{SimConfig, SimPeer},
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    task::spawn_local,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::support::{self, Outcome};

/// Between two changes that the operator asks for.
const TICK: Duration = Duration::from_millis(20);
/// No new client has to wait longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Peers of the pool: lists and snapshots have so many.
const PEERS: usize = 200;

/// How attackers and newcomers connect. With TLS, the others use the Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Plaintext,
    Tls,
}

/// The service. Killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The token of the attackers, a viewer.
    pub(crate) viewer: String,
    operator: String,
    tls: Option<Arc<ClientConfig>>,
    socket: PathBuf,
    _files: TempDir,
    _peers: Vec<SimPeer>,
}

impl Service {
    pub(crate) async fn start(transport: Transport) -> Outcome<Self> {
        let files = TempDir::new()?;
        let token = |name, role| NewToken::generate(name, role).ok_or("no random numbers");
        let (viewer, operator) = (token("viewer", AccessRole::Viewer)?, token("root", AccessRole::Operator)?);
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("tokens"), format!("{}\n{}\n", viewer.line, operator.line))?;
        let socket = path("socket");
        let (peers, addresses) = peers()?;
        let mut config =
            format!("[server.auth]\ntokens = {:?}\n[server.socket]\npath = {socket:?}\n", path("tokens"));
        let mut tls = None;
        if transport == Transport::Tls {
            let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
            std::fs::write(path("cert.pem"), own.cert.pem())?;
            std::fs::write(path("key.pem"), own.signing_key.serialize_pem())?;
            config += &format!("[server.tls]\ncert = {:?}\nkey = {:?}\n", path("cert.pem"), path("key.pem"));
            let mut roots = RootCertStore::empty();
            roots.add(own.cert.der().clone())?;
            let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            client.alpn_protocols = vec![b"h2".to_vec()];
            tls = Some(Arc::new(client));
        }
        config += &format!("[[pool]]\nname = \"default\"\npeers = {addresses:?}\n");
        std::fs::write(path("peerstatus.toml"), config)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--config"]);
        command.arg(path("peerstatus.toml"));
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let line = lines.next_line().await?.ok_or("the service ended")?;
        let address = line.strip_prefix("listening on ").ok_or("the service is not ready")?.parse()?;
        let (viewer, operator) = (viewer.token, operator.token);
        Ok(Self { child, address, viewer, operator, tls, socket, _files: files, _peers: peers })
    }

    /// A channel that no attacker of TLS delays.
    pub(crate) async fn channel(&self) -> Outcome<Channel> {
        let socket = self.socket.clone();
        let connect = service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        match self.tls {
            None => Ok(Endpoint::try_from(self.url())?.connect().await?),
            Some(_) => Ok(Endpoint::try_from(self.url())?.connect_with_connector(connect).await?),
        }
    }

    /// A channel as that of any client elsewhere.
    async fn remote_channel(&self) -> Outcome<Channel> {
        let Some(tls) = self.tls.clone() else { return self.channel().await };
        let address = self.address;
        let connect = service_fn(move |_| {
            let connector = TlsConnector::from(Arc::clone(&tls));
            async move {
                let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                let stream = connector.connect(name, TcpStream::connect(address).await?).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Ok(Endpoint::try_from(self.url())?.connect_with_connector(connect).await?)
    }

    /// A request of the operator.
    pub(crate) fn request<T>(&self, message: T) -> Outcome<Request<T>> {
        with_token(message, &self.operator)
    }

    /// Adds a peer, removes it, and so on.
    pub(crate) async fn change_all_the_time(&self) -> Outcome<()> {
        let mut client = PoolServiceClient::new(self.channel().await?);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let token = self.operator.clone();
        spawn_local(async move {
            loop {
                tick.tick().await;
                let parent = "pools/default".to_owned();
                // Nobody listens there.
                let add = AddPeerRequest { parent, host: "127.0.0.1".to_owned(), port: 1 };
                let Ok(add) = with_token(add, &token) else { return };
                let _ = client.add_peer(add).await;
                tick.tick().await;
                let name = "pools/default/peers/127.0.0.1:1".to_owned();
                let Ok(remove) = with_token(RemovePeerRequest { name }, &token) else { return };
                let _ = client.remove_peer(remove).await;
            }
        });
        Ok(())
    }

    /// How long it takes a new client to be answered. It tries again as often as needed.
    pub(crate) async fn newcomer(&self) -> Outcome<Duration> {
        let begun = Instant::now();
        timeout(PATIENCE, async { while self.ask().await.is_err() {} }).await?;
        Ok(begun.elapsed())
    }

    async fn ask(&self) -> Outcome<()> {
        let mut client = PoolServiceClient::new(self.remote_channel().await?);
        client.get_pool(self.request(GetPoolRequest { name: "pools/default".to_owned() })?).await?;
        Ok(())
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

/// A request with a token.
pub(crate) fn with_token<T>(message: T, token: &str) -> Outcome<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

/// Simulated peers, each of which lists itself, and their addresses.
fn peers() -> Outcome<(Vec<SimPeer>, Vec<String>)> {
    let peers = (0..PEERS).map(|_| SimPeer::start(SimConfig::default())).collect::<Result<Vec<_>, _>>()?;
    for peer in &peers {
        peer.set_peers(vec![(peer.address().ip().to_string(), peer.address().port())]);
    }
    let addresses = peers.iter().map(|peer| peer.address().to_string()).collect();
    Ok((peers, addresses))
}
