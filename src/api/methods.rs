//! The methods that are served, by their descriptors, and server reflection, so that grpcurl and the like need no proto
//! files.

use prost::Message as _;
use prost_types::FileDescriptorSet;

use tonic::service::RoutesBuilder;
use tonic_reflection::server::Builder;

use super::{MAX_REQUEST, pb, permissions::permission};
use crate::{
    metrics::{CallMetrics, MethodKind},
    server::Methods,
};

/// The second describes error details, which clients would otherwise show as bytes.
const DESCRIPTORS: [&[u8]; 2] = [pb::DESCRIPTORS, tonic_types::pb::FILE_DESCRIPTOR_SET];

/// Adds both versions of reflection: older tools ask for v1alpha. If it fails, the rest is served without it.
pub(super) fn add_reflection(routes: &mut RoutesBuilder) {
    let builder = || {
        let register = |builder: Builder<'static>, set| builder.register_encoded_file_descriptor_set(set);
        DESCRIPTORS.into_iter().fold(Builder::configure(), register)
    };
    if let (Ok(v1), Ok(v1alpha)) = (builder().build_v1(), builder().build_v1alpha()) {
        routes.add_service(v1).add_service(v1alpha);
    }
}

/// The description of the API for the layers around it.
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
                methods.extend(service.method.iter().map(|method| {
                    let kind = MethodKind::of(method.client_streaming(), method.server_streaming());
                    (name.clone(), method.name().to_owned(), kind)
                }));
            }
        }
    }
    let methods = methods.iter().map(|(service, method, kind)| (service.as_str(), method.as_str(), *kind));
    Methods { permission, calls: CallMetrics::new(methods), max_request: MAX_REQUEST }
}
