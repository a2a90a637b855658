//! The methods that are served, as their descriptors tell of them.

use std::sync::Arc;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::server::DESCRIPTORS;
use crate::metrics::{Calls, Kind, Shards};

/// What the threads count the messages of.
const WATCH: &str = "/opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus";

/// What is counted of them, none called yet.
pub(super) fn calls(shards: Shards) -> Arc<Calls> {
    let mut methods = Vec::new();
    let reflection =
        [tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET];
    for encoded in DESCRIPTORS.into_iter().chain(reflection) {
        // They were encoded by our build, or by tonic's.
        let files = FileDescriptorSet::decode(encoded).unwrap_or_default().file;
        for (package, service) in
            files.iter().flat_map(|file| file.service.iter().map(|of| (file.package(), of)))
        {
            let name = format!("{package}.{}", service.name());
            let kind = |method: &prost_types::MethodDescriptorProto| {
                Kind::of(method.client_streaming(), method.server_streaming())
            };
            methods.extend(service.method.iter().map(|of| (name.clone(), of.name().to_owned(), kind(of))));
        }
    }
    let methods = methods.iter().map(|(service, method, kind)| (service.as_str(), method.as_str(), *kind));
    Calls::new(methods, WATCH, shards)
}
