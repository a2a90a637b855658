//! Where the stream has the newest records of this node. Pure.
//!
//! A stream that is full drops its oldest messages, whoever filled it. If the oldest of these is still there, it has dropped none of them.

use std::collections::HashMap;

use async_nats::{header::NATS_MESSAGE_TTL, jetstream::message::OutboundMessage};

/// The places of the newest records of all subjects.
#[derive(Debug, Default)]
pub(super) struct Stored(HashMap<String, u64>);

impl Stored {
    /// The stream has a record there.
    pub(super) fn insert(&mut self, message: &OutboundMessage, sequence: u64) {
        let expires = message.headers.as_ref().is_some_and(|headers| headers.get(NATS_MESSAGE_TTL).is_some());
        if expires {
            // A sign of life, or that a peer is gone.
            self.0.remove(message.subject.as_str());
        } else {
            self.0.insert(message.subject.to_string(), sequence);
        }
    }

    /// All are published again.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn oldest(&self) -> Option<(&str, u64)> {
        let oldest = self.0.iter().min_by_key(|(_, sequence)| **sequence);
        oldest.map(|(subject, sequence)| (subject.as_str(), *sequence))
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn message(subject: &str, ttl: Option<&str>) -> OutboundMessage {
        let mut headers = HeaderMap::new();
        ttl.into_iter().for_each(|ttl| headers.insert(NATS_MESSAGE_TTL, ttl));
        OutboundMessage::new(subject.to_owned().into(), "".into(), Some(headers))
    }

    #[test]
    fn the_oldest_is_that_of_the_newest_of_each_subject_that_do_not_expire() {
        let mut stored = Stored::default();
        assert_eq!(stored.oldest(), None);
        for (subject, ttl, sequence) in
            [("a", None, 1), ("b", None, 2), ("up", Some("120s"), 3), ("a", None, 4)]
        {
            stored.insert(&message(subject, ttl), sequence);
        }
        assert_eq!(stored.oldest(), Some(("b", 2)));
        stored.insert(&message("b", Some("3600s")), 5);
        assert_eq!(stored.oldest(), Some(("a", 4)), "the peer is gone");
    }
}
