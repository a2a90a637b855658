//! Attackers, in a process of their own that runs until it is killed.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use opflex_peerstatus::api::pb::{
    ListenerFilter, PoolHealth, WaitForPoolRequest, WatchPeerStatusRequest,
    peer_status_service_client::PeerStatusServiceClient,
};
use prost::Message as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_local,
    time::{sleep, timeout},
};

use tonic::transport::Channel;

use super::{
    service::{Transport, with_token},
    support::Outcome,
};

/// Argument that selects this role.
pub(crate) const ROLE: &str = "--be-the-attackers";
/// Connections of a flood. Each is reopened when it ends.
const FLOODERS: usize = 40;
const SILENT: usize = 5_000;
/// Connections with requests sent byte by byte, 128 on each.
const SLOW: usize = 20;
/// Limit on the runtime of the process.
const LONGEST: Duration = Duration::from_secs(60);
const PATH: &str = "/opflex.peerstatus.v1.PoolService/ListPeers";
const WAIT: &str = "/opflex.peerstatus.v1.PoolService/WaitForPool";
/// Connections whose requests are refused, and which read nothing.
const REFUSED: usize = 1_500;
/// Between two frames of an idle connection.
const IDLE: Duration = Duration::from_secs(15);
/// How long responses are left unread before the next connection.
const UNREAD: Duration = Duration::from_secs(5);
/// Connections of one principal, each with a part of what one could do.
const CROWD: usize = 800;
/// Between two handshakes of one attacker: 400 a second in all.
const HELLO: Duration = Duration::from_millis(100);
/// Watches at a time of each connection that only synchronizes.
const SYNCS: usize = 16;

/// What there is.
pub(crate) const ATTACKS: [&str; 19] = [
    "ping",
    "settings",
    "reset",
    "continuation",
    "data",
    "window",
    "priority",
    "zero-window",
    "half-closed",
    "silent",
    "bodies",
    "refused",
    "idle",
    "waits",
    "unread",
    "syncs",
    "lists",
    "crowd",
    "hello",
];

/// One of those.
#[derive(Clone, Copy)]
pub(crate) struct Attack(pub(crate) &'static str);

impl Attack {
    pub(crate) fn named(name: &str) -> Option<Self> {
        ATTACKS.into_iter().find(|attack| *attack == name).map(Self)
    }

    pub(crate) fn transport(self) -> Transport {
        if self.0 == "hello" { Transport::Tls } else { Transport::Plaintext }
    }

    pub(crate) async fn run(self, address: SocketAddr, token: String) -> Outcome<()> {
        let attackers = match self.0 {
            "silent" | "idle" => SILENT,
            "refused" => REFUSED,
            "bodies" => SLOW,
            "lists" | "crowd" => CROWD,
            _ => FLOODERS,
        };
        for _ in 0..attackers {
            let token = token.clone();
            spawn_local(async move {
                loop {
                    let _ = match self.0 {
                        "hello" => hello(address).await,
                        "syncs" => synchronize(address, &token).await,
                        _ => self.once(address, &token).await,
                    };
                    if self.0 == "idle" {
                        // It gave way.
                        sleep(IDLE).await;
                    }
                }
            });
        }
        let _ = timeout(LONGEST, pending::<()>()).await;
        Ok(())
    }

    /// Runs one connection to its end.
    async fn once(self, address: SocketAddr, token: &str) -> Outcome<()> {
        let (mut from, mut to) = TcpStream::connect(address).await?.into_split();
        let settings: &[u8] = match self.0 {
            // INITIAL_WINDOW_SIZE 0: responses stay where they are.
            "unread" => &[0, 4, 0, 0, 0, 0],
            "lists" => &[0, 4, 0x7f, 0xff, 0xff, 0xff],
            _ => &[],
        };
        let speak = async {
            if self.0 != "silent" {
                to.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, settings)].concat())
                    .await?;
                to.write_all(&self.first(token)).await?;
                for round in 0.. {
                    match self.0 {
                        "bodies" => sleep(Duration::from_secs(1)).await,
                        "idle" => sleep(IDLE).await,
                        "waits" => pending().await,
                        "unread" => {
                            sleep(UNREAD).await;
                            return Ok(());
                        }
                        _ => {}
                    }
                    to.write_all(&self.words(round, token)).await?;
                }
            }
            pending::<Outcome<()>>().await
        };
        let listen = async {
            if self.0 == "refused" {
                pending::<()>().await;
            }
            let mut buffer = vec![0; 1 << 16];
            while from.read(&mut buffer).await? > 0 {}
            Ok(())
        };
        tokio::select! {
            ended = speak => ended,
            ended = listen => ended,
        }
    }

    /// What comes first.
    fn first(self, token: &str) -> Vec<u8> {
        match self.0 {
            "continuation" => frame(1, 0, 1, &headers()),
            "data" | "window" => frame(1, 4, 1, &headers()),
            "waits" => {
                let name = "pools/default".to_owned();
                // It stays healthy.
                let wait = WaitForPoolRequest { name, health: PoolHealth::Down.into() }.encode_to_vec();
                (0..128).flat_map(|number| request(2 * number + 1, WAIT, token, &wait)).collect()
            }
            "lists" => frame(8, 0, 0, &[0x7f, 0, 0, 0]),
            "crowd" => request(1, PATH, token, &[]),
            "unread" => (0..128).flat_map(|number| request(2 * number + 1, PATH, token, &[])).collect(),
            // Messages of 60,000 bytes begin.
            "bodies" => (0..128)
                .flat_map(|number| {
                    let begin = frame(0, 0, 2 * number + 1, &[0, 0, 0, 0xea, 0x60]);
                    [frame(1, 4, 2 * number + 1, &headers()), begin].concat()
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// And then over and over.
    fn words(self, round: u32, token: &str) -> Vec<u8> {
        let streams = |frames: fn(u32) -> [Vec<u8>; 2]| {
            (0..100).flat_map(|number| frames(2 * (100 * round + number) + 1).concat()).collect()
        };
        match self.0 {
            "lists" => request(2 * round + 1, PATH, token, &[]),
            "ping" | "crowd" => frame(6, 0, 0, &[7; 8]).repeat(100),
            "settings" => frame(4, 0, 0, &[]).repeat(100),
            "reset" => {
                streams(|stream| [frame(1, 4, stream, &headers()), frame(3, 0, stream, &[0, 0, 0, 8])])
            }
            // The service has to reset these (CVE-2025-8671).
            "zero-window" => {
                streams(|stream| [frame(1, 4, stream, &headers()), frame(8, 0, stream, &[0; 4])])
            }
            "half-closed" => streams(|stream| [frame(1, 5, stream, &headers()), frame(0, 0, stream, &[7])]),
            "refused" => streams(|stream| [frame(1, 5, stream, &headers()), Vec::new()]),
            "idle" => frame(8, 0, 0, &[0, 0, 0, 1]),
            "continuation" => frame(9, 0, 1, &[0x40, 1, b'x', 1, b'y']).repeat(100),
            "data" => frame(0, 0, 1, &[]).repeat(100),
            "window" => frame(8, 0, 1, &[0, 0, 0, 1]).repeat(100),
            "priority" => frame(2, 0, 3, &[0, 0, 0, 0, 16]).repeat(100),
            "bodies" => (0..128).flat_map(|number| frame(0, 0, 2 * number + 1, &[7])).collect(),
            _ => Vec::new(),
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// POST over http, by the numbers in HPACK's table; the rest is written out.
fn headers() -> Vec<u8> {
    headers_of(PATH, None)
}

fn headers_of(path: &str, token: Option<&str>) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let bearer = token.map(|token| format!("Bearer {token}"));
    let fields: [(&[u8], &str); 3] =
        [(&[0x04], path), (&[0x01], "test"), (&[0x0f, 0x10], "application/grpc")];
    let authorization = bearer.as_deref().map(|bearer| (&[0x0f, 0x08][..], bearer));
    for (name, value) in fields.into_iter().chain(authorization) {
        block.extend(name);
        block.push(u8::try_from(value.len()).unwrap_or_default());
        block.extend(value.bytes());
    }
    block
}

/// A whole request.
fn request(stream: u32, path: &str, token: &str, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    let body = [&[0], &length[..], message].concat();
    [frame(1, 4, stream, &headers_of(path, Some(token))), frame(0, 1, stream, &body)].concat()
}

/// Begins a TLS handshake and does not go on, whatever becomes of it.
async fn hello(address: SocketAddr) -> Outcome<()> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&hello).await?;
    spawn_local(async move {
        let mut buffer = vec![0; 1 << 12];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    });
    sleep(HELLO).await;
    Ok(())
}

/// Asks for snapshots under a wide filter, as fast as they come.
async fn synchronize(address: SocketAddr, token: &str) -> Outcome<()> {
    let client = PeerStatusServiceClient::connect(format!("http://{address}")).await?;
    let peers = (0..64).map(|number| format!("*a*b*c*{number}{}", "?".repeat(50))).chain(["*".to_owned()]);
    let filter = Some(ListenerFilter { peers: peers.skip(1).collect(), ..ListenerFilter::default() });
    let request = WatchPeerStatusRequest { filter, stop_after_sync: true, ..Default::default() };
    let synchronize = |mut client: PeerStatusServiceClient<Channel>| {
        let request = request.clone();
        async move {
            loop {
                let request = with_token(request.clone(), token)?;
                let mut watch = client.watch_peer_status(request).await?.into_inner();
                while watch.message().await?.is_some() {}
            }
        }
    };
    let mut all = Vec::new();
    for _ in 0..SYNCS {
        all.push(synchronize(client.clone()));
    }
    let ended: Outcome<Vec<()>> = futures_util::future::try_join_all(all).await;
    ended.map(drop)
}
