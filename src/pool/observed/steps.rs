//! From observations to updates of the hub.

use std::{sync::Arc, time::SystemTime};

use super::MAX_DETAIL;
use crate::{
    observe::{Observation, Observed},
    opflex::text::printable,
    peer::{Evidence, PeerAddress, PeerStatus, Reason, Report},
    status::Update,
};

/// Observations of the same time are one step, of which no reader sees a part. A new peer is added with the status that it
/// has in it.
pub(super) fn steps(observations: Vec<Observation>) -> Vec<(SystemTime, Vec<(PeerAddress, Update)>)> {
    let mut steps: Vec<(SystemTime, Vec<(PeerAddress, Update)>)> = Vec::new();
    let mut observations = observations.into_iter().peekable();
    while let Some(Observation { address, what, at }) = observations.next() {
        let is_next =
            |next: &Observation| next.address == address && matches!(next.what, Observed::Status { .. });
        let update = match what {
            Observed::Added if observations.peek().is_some_and(is_next) => continue,
            Observed::Added => {
                Update::Observed(Report::new(PeerStatus::Connecting, Reason::Added), Some(Evidence::Log))
            }
            Observed::Status { status, reason, detail, evidence } => {
                let detail = Arc::from(printable(&detail, MAX_DETAIL));
                Update::Observed(Report { detail, ..Report::new(status, reason) }, evidence)
            }
            Observed::Removed => Update::Removed,
        };
        match steps.last_mut() {
            Some((time, step)) if *time == at => step.push((address, update)),
            _ => steps.push((at, vec![(address, update)])),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::status::Hub;

    #[test]
    fn a_new_peer_is_added_with_the_status_that_it_has() {
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let observation =
            |host: &str, what, second| Observation { address: host.parse().unwrap(), what, at: at(second) };
        let unknown = || Observed::Status {
            status: PeerStatus::Unknown,
            reason: Reason::ObservationLost,
            detail: "two\nlines".into(),
            evidence: None,
        };
        let steps = steps(vec![
            observation("a:1", Observed::Added, 1),
            observation("a:1", unknown(), 1),
            observation("b:1", Observed::Added, 1),
            observation("a:1", Observed::Removed, 2),
        ]);
        let hub = Hub::new(1, 64);
        hub.add_observed_pool("p".into(), at(0));
        let told: Vec<_> = steps
            .into_iter()
            .flat_map(|(at, updates)| hub.apply("p", at, updates))
            .map(|event| {
                let change = event.peer.as_ref().unwrap();
                let health = event.health.map(|health| health.health.as_str());
                (change.kind, change.peer.status, change.peer.detail.to_string(), health)
            })
            .collect();
        use crate::status::ChangeKind::{Added, Removed};
        let expected = [
            (Added, PeerStatus::Unknown, "two lines".to_owned(), None),
            (Added, PeerStatus::Connecting, String::new(), None),
            (Removed, PeerStatus::Disconnected, "two lines".to_owned(), Some("DOWN")),
        ];
        assert_eq!(told, expected);
    }
}
