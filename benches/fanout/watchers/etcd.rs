//! Watchers of a key in etcd, with the part of its API that they need.

use std::{net::SocketAddr, rc::Rc};

use bytes::Bytes;
use h2::client::SendRequest;
use prost::Message;
use tokio::task::{JoinHandle, spawn_local};

use super::{Heard, brokers::payload, grpc};
use crate::support::Outcome;

const KEY: &[u8] = b"change";

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create: Option<WatchCreate>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreate {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchResponse {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(message, optional, tag = "2")]
    pair: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

pub(super) async fn open(address: SocketAddr, heard: &Rc<Heard>) -> Outcome<JoinHandle<()>> {
    let (mut client, driver) = grpc::connect(address, 2 * 1024 * 1024).await?;
    let request = WatchRequest { create: Some(WatchCreate { key: KEY.to_vec() }) }.encode_to_vec();
    let (response, mut requests) = client.send_request(
        http::Request::post(format!("http://{address}/etcdserverpb.Watch/Watch"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?,
        false,
    )?;
    // Closing the request stream would end the watch.
    requests.send_data(grpc::frame(&request)?, false)?;
    let heard = Rc::clone(heard);
    Ok(spawn_local(async move {
        let _open = (driver, requests, client);
        if let Err(error) =
            async { grpc::read(response.await?.into_body(), |said| take(said, &heard)).await }.await
        {
            heard.failed(error.to_string());
        }
    }))
}

fn take(message: &[u8], heard: &Heard) -> Outcome<()> {
    let message = WatchResponse::decode(message)?;
    if message.created {
        heard.ready();
    }
    for event in message.events {
        let value = event.pair.unwrap_or_default().value;
        heard.published_at(u64::from_le_bytes(value[..8].try_into()?));
        heard.delivered(1);
    }
    Ok(())
}

/// A connection for publishing.
pub(crate) async fn publisher(address: SocketAddr) -> Outcome<SendRequest<Bytes>> {
    let (client, _) = grpc::connect(address, 65_535).await?;
    Ok(client)
}

/// Publishes one change without waiting for the response.
pub(crate) async fn put(client: &mut SendRequest<Bytes>, address: SocketAddr) -> Outcome<()> {
    let put = Put { key: KEY.to_vec(), value: payload() }.encode_to_vec();
    let response = grpc::call(client, address, "/etcdserverpb.KV/Put", &put)?;
    spawn_local(async move {
        let _ = response.await;
    });
    Ok(())
}
