//! Places for streams of events, of which one client has a part.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;

use crate::{auth::Caller, server::Source};

/// A principal or a source may have one of so many parts of all places. Callers without credentials on this machine, who may
/// be many, may together have all parts but one.
const PARTS: usize = 4;

/// The places.
#[derive(Clone, Debug)]
pub(super) struct EventStreams {
    limit: usize,
    open: Arc<Mutex<HashMap<Client, usize>>>,
}

/// Whose streams count together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    Principal(Arc<str>),
    /// Of callers without credentials.
    Source(Source),
}

/// A stream that counts until this is dropped.
#[derive(Debug)]
pub(super) struct EventStreamPermit {
    open: Arc<Mutex<HashMap<Client, usize>>>,
    client: Client,
}

/// There is no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error(
        "all event streams of the admin port are in use; limits.max_event_streams sets how many there are"
    )]
    OfAll,
    #[error("{client} has {share} event streams, its share of limits.max_event_streams")]
    OfClient { client: String, share: usize },
}

impl EventStreams {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Arc::default() }
    }

    pub(super) fn take(&self, caller: &Caller, source: Source) -> Result<EventStreamPermit, NoPlace> {
        let client = match caller.is_revocable() {
            true => Client::Principal(Arc::clone(&caller.principal)),
            false => Client::Source(source),
        };
        let part = self.limit / PARTS;
        let share = if client == Client::Source(Source::Local) { self.limit - part } else { part.max(1) };
        let mut open = self.open.lock();
        if open.values().sum::<usize>() >= self.limit {
            return Err(NoPlace::OfAll);
        }
        let own = open.entry(client.clone()).or_default();
        if *own >= share {
            return Err(NoPlace::OfClient { client: client.to_string(), share });
        }
        *own += 1;
        Ok(EventStreamPermit { open: Arc::clone(&self.open), client })
    }
}

impl Drop for EventStreamPermit {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(principal) => f.write_str(principal),
            Self::Source(source) => source.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::SystemTime;

    use super::*;
    use crate::auth::{Auth, Credential, Credentials};

    fn anonymous() -> Caller {
        Auth::default().authenticate(&Credentials::default(), SystemTime::now()).unwrap()
    }

    fn named(principal: &str) -> Caller {
        let credential = Credential::Token([0; 32]);
        Caller { principal: principal.into(), credential, ..anonymous() }
    }

    fn fill(streams: &EventStreams, caller: &Caller, source: Source) -> (Vec<EventStreamPermit>, NoPlace) {
        let mut permits = Vec::new();
        loop {
            match streams.take(caller, source) {
                Ok(permit) => permits.push(permit),
                Err(why) => return (permits, why),
            }
        }
    }

    #[test]
    fn a_principal_or_a_source_has_a_part_and_local_leaves_one() {
        let streams = EventStreams::new(32);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|source| Source::of(source.parse().unwrap()));
        let (ann, full) = fill(&streams, &named("token:ann"), Source::Local);
        assert_eq!(
            (ann.len(), &*full.to_string()),
            (8, "token:ann has 8 event streams, its share of limits.max_event_streams")
        );
        assert_eq!(fill(&streams, &named("token:ann"), one).0.len(), 0, "wherever it connects from");
        assert_eq!(fill(&streams, &named("token:bob"), one).0.len(), 8);
        let (anonymous_one, full) = fill(&streams, &anonymous(), one);
        assert_eq!(
            (anonymous_one.len(), full),
            (8, NoPlace::OfClient { client: "192.0.2.1".into(), share: 8 })
        );
        let (rest, full) = fill(&streams, &anonymous(), other);
        assert_eq!((rest.len(), full), (8, NoPlace::OfClient { client: "192.0.2.2".into(), share: 8 }));
        drop((ann, anonymous_one, rest));
        let (local, _) = fill(&streams, &anonymous(), Source::Local);
        assert_eq!(local.len(), 24);
        assert!(streams.take(&named("token:bob"), one).is_ok());
        drop(local);
        assert!(streams.open.lock().is_empty());
    }

    #[test]
    fn where_there_are_few_each_has_one() {
        let streams = EventStreams::new(1);
        let (local, full) = fill(&streams, &anonymous(), Source::Local);
        assert_eq!((local.len(), full), (1, NoPlace::OfAll));
        assert_eq!(fill(&EventStreams::new(0), &anonymous(), Source::Local).1, NoPlace::OfAll);
    }
}
