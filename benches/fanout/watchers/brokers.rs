//! Subscribers of Redis and NATS: both protocols have lines with the length before each message.

use std::{net::SocketAddr, rc::Rc};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinHandle, spawn_local},
};

use super::{Heard, now};
use crate::{servers::record_len, support::Outcome};

pub(super) async fn redis(address: SocketAddr, heard: &Rc<Heard>) -> Outcome<JoinHandle<()>> {
    // *3 $7 message $6 change $LENGTH and the payload
    let head = format!("*3\r\n$7\r\nmessage\r\n$6\r\nchange\r\n${}\r\n", record_len());
    open(address, "SUBSCRIBE change\r\n", &head, heard).await
}

pub(super) async fn nats(address: SocketAddr, heard: &Rc<Heard>) -> Outcome<JoinHandle<()>> {
    let head = format!("MSG change 1 {}\r\n", record_len());
    open(address, "CONNECT {\"verbose\":false}\r\nSUB change 1\r\nPING\r\n", &head, heard).await
}

/// Publishes one change on a connection of its own.
pub(crate) async fn redis_publish(stream: &mut TcpStream) -> Outcome<()> {
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n$6\r\nchange\r\n${}\r\n", record_len());
    publish(stream, &head).await?;
    // The answer is the number of receivers: `:1000`
    while stream.read_u8().await? != b'\n' {}
    Ok(())
}

pub(crate) async fn nats_publish(stream: &mut TcpStream) -> Outcome<()> {
    publish(stream, &format!("PUB change {}\r\n", record_len())).await
}

/// Prepares a new connection for publishing.
pub(crate) async fn nats_hello(mut stream: TcpStream) -> Outcome<TcpStream> {
    stream.write_all(b"CONNECT {\"verbose\":false}\r\n").await?;
    Ok(stream)
}

async fn publish(stream: &mut TcpStream, head: &str) -> Outcome<()> {
    let mut all = head.as_bytes().to_vec();
    all.extend_from_slice(&payload());
    all.extend_from_slice(b"\r\n");
    Ok(stream.write_all(&all).await?)
}

/// As long as a change in our API; begins with the time.
pub(super) fn payload() -> Vec<u8> {
    let mut payload = vec![b'x'; record_len()];
    payload[..8].copy_from_slice(&now().to_le_bytes());
    payload
}

async fn open(address: SocketAddr, hello: &str, head: &str, heard: &Rc<Heard>) -> Outcome<JoinHandle<()>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(hello.as_bytes()).await?;
    let (head, heard) = (head.as_bytes().to_vec(), Rc::clone(heard));
    Ok(spawn_local(async move {
        if let Err(error) = read(stream, &head, &heard).await {
            heard.failed(error.to_string());
        }
    }))
}

/// Reads messages that begin with `head`; the greeting precedes the first one.
async fn read(mut stream: TcpStream, head: &[u8], heard: &Heard) -> Outcome<()> {
    let mut buffer = BytesMut::new();
    let mut greeted = false;
    let whole = head.len() + record_len() + 2;
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("the server closed a connection".into());
        }
        if !greeted {
            // Redis answers with `:1`, the number of subscriptions; NATS with PONG.
            if buffer.ends_with(b":1\r\n") || buffer.ends_with(b"PONG\r\n") {
                greeted = true;
                buffer.clear();
                heard.ready();
            }
            continue;
        }
        loop {
            // NATS sends PING at any time between messages.
            if buffer.starts_with(b"PING\r\n") {
                buffer.advance(6);
                stream.write_all(b"PONG\r\n").await?;
                continue;
            }
            if buffer.len() < whole {
                break;
            }
            if !buffer.starts_with(head) {
                return Err(format!("unexpected: {:?}", &buffer[..head.len()]).into());
            }
            heard.published_at(u64::from_le_bytes(buffer[head.len()..head.len() + 8].try_into()?));
            heard.delivered(1);
            buffer.advance(whole);
        }
    }
}
