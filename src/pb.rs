//! The API as generated code: messages and clients, from `proto/opflex/peerstatus/v1`.
#![allow(clippy::all, unreachable_pub)] // not ours to lint

tonic::include_proto!("opflex.peerstatus.v1");

// The traits as tonic generates them, for scripted servers in tests.
#[cfg(all(test, feature = "server"))]
include!(concat!(env!("OUT_DIR"), "/plain/opflex.peerstatus.v1.rs"));

/// The descriptor set of everything that is generated: for server reflection and JSON output.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The standard health check, from `proto/grpc/health/v1`.
#[allow(missing_docs, rustdoc::bare_urls)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
