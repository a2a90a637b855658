//! Compiles `proto/` with protox, so that no protoc is needed, and keeps the descriptor set for
//! server reflection and for JSON output.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use tonic_prost_build::Builder;
use tonic_prost_build::FileDescriptorSet;

const PROTOS: [&str; 6] = [
    "grpc/health/v1/health.proto",
    "opflex/peerstatus/v1/types.proto",
    "opflex/peerstatus/v1/node.proto",
    "opflex/peerstatus/v1/node_service.proto",
    "opflex/peerstatus/v1/peer_status_service.proto",
    "opflex/peerstatus/v1/pool_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    if env::var_os("CARGO_FEATURE_SERVER").is_some() {
        generate_servers(&out, &descriptors)?;
    }
    configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}

fn configure() -> Builder {
    tonic_prost_build::configure().bytes(".opflex.peerstatus.v1")
}

fn generate_servers(out: &Path, descriptors: &FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    // The server that the benchmarks compare with is as tonic makes it.
    let plain = out.join("plain");
    fs::create_dir_all(&plain)?;
    let types = "::opflex_peerstatus::api::pb";
    let plainly = configure().build_client(false).extern_path(".opflex.peerstatus.v1", types);
    plainly.out_dir(plain).compile_fds(descriptors.clone())?;
    // Ours has a message of its own in the stream of changes, which are encoded once for all clients.
    let server = out.join("server");
    fs::create_dir_all(&server)?;
    configure()
        .build_client(false)
        .codec_path("crate::api::codec::ApiCodec")
        .extern_path(".grpc.health.v1", "crate::api::health_pb")
        .extern_path(".opflex.peerstatus.v1", "crate::api::pb")
        .extern_path(".opflex.peerstatus.v1.WatchPeerStatusResponse", "crate::api::WatchMessage")
        .out_dir(server)
        .compile_fds(descriptors.clone())?;
    Ok(())
}
