//! The gRPC edge: conversions between the service and its clients, and nothing else. The only user of tonic
//! and prost on the server's side.

mod access;
mod clients;
mod codec;
mod convert;
mod deadline;
mod error;
mod health;
mod methods;
mod names;
mod needs;
mod paging;
mod pool_service;
mod request;
mod server;
mod socket;
mod status_service;
mod transitions;
mod watch;
mod wire;

pub use access::Access;
pub use clients::{Keepalive, ThreadEnded};
pub use server::{Api, Counts, Server, Serving};
pub use socket::{SocketError, SocketFile, SocketSettings};

/// Generated from `proto/grpc/health/v1`.
#[allow(clippy::all, unreachable_pub, missing_docs, rustdoc::bare_urls)] // not ours to lint
pub mod health_pb {
    tonic::include_proto!("grpc.health.v1");
}

/// Generated from `proto/opflex/peerstatus/v1`.
#[allow(clippy::all, unreachable_pub)] // not ours to lint
pub mod pb {
    tonic::include_proto!("opflex.peerstatus.v1");

    /// The descriptor set of everything that is generated: for server reflection and JSON output.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
