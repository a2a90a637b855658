//! The methods of OpFlex, and those that share its parser.

use std::fmt;

use super::text::printable;

/// Enough of an unknown method's name to recognise it by, in bytes.
const OTHER_LIMIT: usize = 64;

macro_rules! methods {
    ($($(#[$meta:meta])* $variant:ident = $word:literal,)+) => {
        /// What a request asks for.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Method {
            $($(#[$meta])* $variant,)+
            /// A method that OpFlex does not know: its name, cut to 64 bytes and made printable.
            Other(Box<str>),
        }

        impl Method {
            /// The method of that name.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(printable(other, OTHER_LIMIT).into()),
                }
            }

            /// Its name on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
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
    /// It unsubscribes.
    PolicyUnresolve = "policy_unresolve",
    /// Policy for a policy element.
    PolicyUpdate = "policy_update",
    /// A policy element announces an endpoint.
    EndpointDeclare = "endpoint_declare",
    /// It takes the announcement back.
    EndpointUndeclare = "endpoint_undeclare",
    /// A policy element subscribes to an endpoint.
    EndpointResolve = "endpoint_resolve",
    /// It unsubscribes.
    EndpointUnresolve = "endpoint_unresolve",
    /// News of an endpoint for a policy element.
    EndpointUpdate = "endpoint_update",
    /// A policy element reports state to an observer.
    StateReport = "state_report",
    /// Vendors' own.
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
