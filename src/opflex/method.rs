//! The methods of OpFlex, and those of OVSDB, which shares its parser in the reference.

use std::fmt;

use super::text::printable;

/// Longest name kept of an unknown method, in bytes.
const OTHER_LIMIT: usize = 64;

macro_rules! methods {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)+) => {
        /// The method of a request.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Method {
            $($(#[$meta])* $variant,)+
            /// Any other method: its name, clipped to 64 bytes and made printable.
            Other(Box<str>),
        }

        impl Method {
            /// The method of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)+
                    other => Self::Other(printable(other, OTHER_LIMIT).into()),
                }
            }

            /// The name on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other(name) => name,
                }
            }
        }
    };
}

methods! {
    /// Keepalive; the answer is the params.
    Echo = "echo",
    /// The handshake.
    SendIdentity = "send_identity",
    /// A policy element subscribes to policy.
    PolicyResolve = "policy_resolve",
    /// A policy element unsubscribes from policy.
    PolicyUnresolve = "policy_unresolve",
    /// Policy for a policy element.
    PolicyUpdate = "policy_update",
    /// A policy element announces an endpoint.
    EndpointDeclare = "endpoint_declare",
    /// A policy element withdraws an endpoint.
    EndpointUndeclare = "endpoint_undeclare",
    /// A policy element subscribes to an endpoint.
    EndpointResolve = "endpoint_resolve",
    /// A policy element unsubscribes from an endpoint.
    EndpointUnresolve = "endpoint_unresolve",
    /// An endpoint update for a policy element.
    EndpointUpdate = "endpoint_update",
    /// A policy element reports state to an observer.
    StateReport = "state_report",
    /// Vendor extension.
    Custom = "custom",
    /// OVSDB.
    Transact = "transact",
    /// OVSDB.
    Monitor = "monitor",
    /// OVSDB.
    Update = "update",
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
