//! The methods that are served, as their descriptors tell of them.

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

use super::{MAX_REQUEST, permissions::permission, reflection::DESCRIPTORS};
use crate::{
    metrics::{Calls, Kind},
    server::Methods,
};

/// What the layers around the API have to know of it.
#[must_use]
pub fn methods() -> Methods {
    let reflection =
        [tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET];
    let mut methods = Vec::new();
    for encoded in DESCRIPTORS.into_iter().chain(reflection) {
        // They were encoded by our build, or by tonic's.
        for file in FileDescriptorSet::decode(encoded).unwrap_or_default().file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                methods
                    .extend(service.method.iter().map(|of| (name.clone(), of.name().to_owned(), kind(of))));
            }
        }
    }
    let methods = methods.iter().map(|(service, method, kind)| (service.as_str(), method.as_str(), *kind));
    Methods { permission, calls: Calls::new(methods), max_request: MAX_REQUEST }
}

fn kind(method: &MethodDescriptorProto) -> Kind {
    Kind::of(method.client_streaming(), method.server_streaming())
}
