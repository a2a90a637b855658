//! Subjects of the stream: `opflex.v1.{cluster}.{node}.…`.

use std::{fmt, str::FromStr, sync::Arc};

use data_encoding::BASE32_DNSSEC;
use serde::{Deserialize, Serialize};

use crate::{opflex::text::Quoted, peer::PeerAddress};

/// What all subjects begin with: our name, and the version of the contract.
const PREFIX: [&str; 2] = ["opflex", "v1"];
/// Longest name, as of a DNS label.
const MAX_NAME: usize = 63;

/// The name of a cluster, a node or a pool, which fits into one token of a subject: 1 to 63 characters of
/// `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// The text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a name: 1 to {MAX_NAME} characters of [A-Za-z0-9_-]")]
pub struct NameError(String);

impl Name {
    /// The name of a node on a host of this name, which may be a domain name: with dashes for dots.
    ///
    /// # Errors
    /// It does not fit.
    pub fn of_host(host: &str) -> Result<Self, NameError> {
        host.replace('.', "-").parse()
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_name = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits);
        if is_name { Ok(Self(text.into())) } else { Err(NameError(Quoted(text).to_string())) }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a record of a node belongs. Each has one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Its cluster.
    pub cluster: Name,
    /// The node that publishes it.
    pub node: Name,
    /// What the record is about.
    pub topic: Topic,
}

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A peer: `{pool}.peer.{base32hex of host:port}`.
    Peer {
        /// Its pool.
        pool: Name,
        /// The peer.
        address: PeerAddress,
    },
    /// A pool: `{pool}.health`.
    Health {
        /// The pool.
        pool: Name,
    },
    /// The node itself: `node`.
    Node,
    /// Its signs of life: `up`.
    Up,
}

/// The text is no [`Subject`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It has other tokens.
    #[error("{0} is not a subject of the fleet")]
    Unknown(String),
    /// A name in it is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address of the peer in it is invalid, or not spelled as we spell it.
    #[error("{0} does not contain the address of a peer")]
    Address(String),
}

impl Subject {
    /// The subjects of all nodes.
    #[must_use]
    pub fn all() -> String {
        format!("{}.>", PREFIX.join("."))
    }

    /// The subjects of all nodes of one cluster.
    #[must_use]
    pub fn of_cluster(cluster: &Name) -> String {
        format!("{}.{cluster}.>", PREFIX.join("."))
    }

    /// The subjects of the commits of all nodes of one cluster.
    #[must_use]
    pub fn of_commits(cluster: &Name) -> String {
        format!("{}.{cluster}.*.node", PREFIX.join("."))
    }

    /// The subjects of one node, which are all that its credentials need to publish to.
    #[must_use]
    pub fn of_node(cluster: &Name, node: &Name) -> String {
        format!("{}.{cluster}.{node}.>", PREFIX.join("."))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [product, version] = PREFIX;
        let Self { cluster, node, topic } = self;
        write!(f, "{product}.{version}.{cluster}.{node}.")?;
        match topic {
            Topic::Peer { pool, address } => {
                let address = BASE32_DNSSEC.encode(address.to_string().as_bytes());
                write!(f, "{pool}.peer.{address}")
            }
            Topic::Health { pool } => write!(f, "{pool}.health"),
            Topic::Node => f.write_str("node"),
            Topic::Up => f.write_str("up"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let unknown = || SubjectError::Unknown(Quoted(text).to_string());
        let mut tokens = text.split('.');
        if !PREFIX.into_iter().all(|token| tokens.next() == Some(token)) {
            return Err(unknown());
        }
        let (Some(cluster), Some(node)) = (tokens.next(), tokens.next()) else { return Err(unknown()) };
        let topic = match [tokens.next(), tokens.next(), tokens.next(), tokens.next()] {
            [Some("node"), None, ..] => Topic::Node,
            [Some("up"), None, ..] => Topic::Up,
            [Some(pool), Some("health"), None, _] => Topic::Health { pool: pool.parse()? },
            [Some(pool), Some("peer"), Some(encoded), None] => {
                let address =
                    decode_address(encoded).ok_or_else(|| SubjectError::Address(Quoted(text).to_string()))?;
                Topic::Peer { pool: pool.parse()?, address }
            }
            _ => return Err(unknown()),
        };
        Ok(Self { cluster: cluster.parse()?, node: node.parse()?, topic })
    }
}

/// The address, if it is spelled as [`Subject`] spells it.
fn decode_address(encoded: &str) -> Option<PeerAddress> {
    let decoded = String::from_utf8(BASE32_DNSSEC.decode(encoded.as_bytes()).ok()?).ok()?;
    let address: PeerAddress = decoded.parse().ok()?;
    let is_canonical = address.to_string() == decoded && BASE32_DNSSEC.encode(decoded.as_bytes()) == encoded;
    is_canonical.then_some(address)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::fleet) fn names() -> impl Strategy<Value = Name> {
        "[A-Za-z0-9_-]{1,63}".prop_map(|text| text.parse().unwrap())
    }

    fn addresses() -> impl Strategy<Value = PeerAddress> {
        let hosts = prop_oneof![
            "[a-z][a-z0-9-]{0,20}(\\.[a-z]{2,8}){0,3}",
            any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
        ];
        (hosts, 1..=u16::MAX).prop_filter_map("a host", |(host, port)| PeerAddress::new(&host, port).ok())
    }

    pub(in crate::fleet) fn subjects() -> impl Strategy<Value = Subject> {
        let topics = prop_oneof![
            (names(), addresses()).prop_map(|(pool, address)| Topic::Peer { pool, address }),
            names().prop_map(|pool| Topic::Health { pool }),
            Just(Topic::Node),
            Just(Topic::Up),
        ];
        (names(), names(), topics).prop_map(|(cluster, node, topic)| Subject { cluster, node, topic })
    }

    proptest! {
        #[test]
        fn a_subject_is_parsed_as_it_was_written(subject in subjects()) {
            let text = subject.to_string();
            prop_assert_eq!(text.parse(), Ok(subject));
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte)));
        }

        #[test]
        fn no_text_panics_and_what_is_parsed_has_one_spelling(
            text in prop_oneof![
                any::<String>(),
                "opflex\\.v1\\.[a-z]{1,3}\\.[a-zA-Z.]{0,4}\\.(node|up|health|p\\.health|p\\.peer\\.[0-9a-vA-V=]{0,24})",
            ],
        ) {
            if let Ok(subject) = text.parse::<Subject>() {
                prop_assert_eq!(subject.to_string(), text);
            }
        }
    }

    #[test]
    fn the_subjects_are_those_of_the_contract() {
        let of = |topic| {
            Subject { cluster: "lab".parse().unwrap(), node: "Node_1-a".parse().unwrap(), topic }.to_string()
        };
        let pool = || "default".parse().unwrap();
        let address = "leaf-101:8009".parse().unwrap();
        let prefix = "opflex.v1.lab.Node_1-a";
        assert_eq!(
            of(Topic::Peer { pool: pool(), address }),
            format!("{prefix}.default.peer.dhim2phd64o32eho60o3i")
        );
        assert_eq!(of(Topic::Health { pool: pool() }), format!("{prefix}.default.health"));
        assert_eq!([of(Topic::Node), of(Topic::Up)], [format!("{prefix}.node"), format!("{prefix}.up")]);
        let (cluster, node) = ("lab".parse().unwrap(), "Node_1-a".parse().unwrap());
        assert_eq!(Subject::of_node(&cluster, &node), format!("{prefix}.>"));
        assert_eq!(Subject::all(), "opflex.v1.>");
    }

    #[test]
    fn other_spellings_of_an_address_are_rejected() {
        let upper = "opflex.v1.lab.n.default.peer.DHIM2PHD64O32EHO60O3I";
        let error = upper.parse::<Subject>().unwrap_err();
        assert_eq!(error, SubjectError::Address(format!("{upper:?}")));
        // `LEAF-101:8009`, which is `leaf-101:8009`.
        let encoded = BASE32_DNSSEC.encode(b"LEAF-101:8009");
        assert!(format!("opflex.v1.lab.n.default.peer.{encoded}").parse::<Subject>().is_err());
    }

    #[test]
    fn a_name_fits_one_token() {
        for bad in ["", "a.b", "a b", "*", ">", "ä", &"a".repeat(64)] {
            let error = bad.parse::<Name>().unwrap_err().to_string();
            assert!(error.ends_with(" is not a name: 1 to 63 characters of [A-Za-z0-9_-]"), "{error}");
        }
        assert!("a".repeat(63).parse::<Name>().is_ok());
    }
}
