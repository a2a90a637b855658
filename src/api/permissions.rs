//! The role that each method requires. Unknown methods require `operator`, so that a new method is not public by accident.

use crate::{auth::AccessRole, server::Permission};

/// Methods that need no credentials.
const PUBLIC: [&str; 1] = ["/grpc.health.v1.Health/Check"];

/// Methods that change nothing but the caller's own listeners.
const VIEWER: [&str; 17] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/opflex.peerstatus.v1.PeerStatusService/CreateListener",
    "/opflex.peerstatus.v1.PeerStatusService/GetListener",
    "/opflex.peerstatus.v1.PeerStatusService/ListListeners",
    "/opflex.peerstatus.v1.PeerStatusService/DestroyListener",
    "/opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus",
    "/opflex.peerstatus.v1.NodeService/ListNodes",
    "/opflex.peerstatus.v1.NodeService/GetNode",
    "/opflex.peerstatus.v1.PoolService/ListPools",
    "/opflex.peerstatus.v1.PoolService/GetPool",
    "/opflex.peerstatus.v1.PoolService/WaitForPool",
    "/opflex.peerstatus.v1.PoolService/ListPeers",
    "/opflex.peerstatus.v1.PoolService/GetPeer",
    "/opflex.peerstatus.v1.PoolService/ListTransitions",
];

/// The permission that the method at this path requires.
pub(super) fn permission(path: &str) -> Permission {
    if PUBLIC.contains(&path) {
        Permission::Public
    } else if VIEWER.contains(&path) {
        Permission::Role(AccessRole::Viewer)
    } else {
        Permission::Role(AccessRole::Operator)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::api::pb;

    /// Methods that change what is everybody's.
    const OPERATOR: [&str; 3] = ["AddPeer", "RemovePeer", "ResetPeers"];

    #[test]
    fn every_method_of_the_api_is_known_and_nothing_else() {
        let pool = DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
        let methods: Vec<_> = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| (format!("/{}/{}", method.parent_service().full_name(), method.name()), method))
            .collect();
        for (path, method) in &methods {
            let takes_most = permission(path) == Permission::Role(AccessRole::Operator);
            assert_eq!(takes_most, OPERATOR.contains(&method.name()), "{path}");
        }
        let known = |path: &str| methods.iter().any(|(known, _)| known == path);
        // Reflection is not ours, and not in the descriptors.
        let ours = PUBLIC.iter().chain(&VIEWER).filter(|path| !path.starts_with("/grpc.reflection."));
        assert!(ours.clone().count() + OPERATOR.len() == methods.len() && ours.copied().all(known));
    }

    #[test]
    fn the_health_check_alone_needs_no_credentials() {
        assert_eq!(PUBLIC, ["/grpc.health.v1.Health/Check"]);
        for version in ["v1", "v1alpha"] {
            // A request of a few bytes is answered with the descriptors of all services.
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            assert_eq!(permission(&path), Permission::Role(AccessRole::Viewer), "{path}");
        }
    }

    #[test]
    fn what_is_not_known_takes_the_most() {
        for path in ["", "/", "/opflex.peerstatus.v1.PoolService/NewOne", "/grpc.health.v1.Health/Check/"] {
            assert_eq!(permission(path), Permission::Role(AccessRole::Operator), "{path:?}");
        }
    }
}
