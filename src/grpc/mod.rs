//! The gRPC edge: conversions between the service and its clients, and nothing else.

/// Generated from `proto/opflex/peerstatus/v1`.
#[allow(clippy::all, unreachable_pub)]
pub mod pb {
    tonic::include_proto!("opflex.peerstatus.v1");

    /// The descriptor set of the API: for server reflection and JSON output.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
