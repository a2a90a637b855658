//! Server reflection, so that grpcurl and its like need no proto files.

use tonic::service::RoutesBuilder;
use tonic_reflection::server::Builder;

use super::pb;

/// Everything that is served, and what is needed to understand it.
pub(super) const DESCRIPTORS: [&[u8]; 2] = [
    pb::DESCRIPTORS,
    // The details of errors, which clients would otherwise show as bytes.
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// Adds both versions: older tools ask for v1alpha. Without them everything else goes on.
pub(super) fn add_to(routes: &mut RoutesBuilder) {
    if let (Ok(v1), Ok(v1alpha)) = (builder().build_v1(), builder().build_v1alpha()) {
        routes.add_service(v1).add_service(v1alpha);
    }
}

fn builder() -> Builder<'static> {
    let register = |builder: Builder<'static>, set| builder.register_encoded_file_descriptor_set(set);
    DESCRIPTORS.into_iter().fold(Builder::configure(), register)
}
