//! Quiet attempts to reach a peer that was given up: nothing is published until it takes a connection again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::session::{SessionEvent, SessionEventKind, Shared};
use crate::peer::{Backoff, DialPriority, PeerAddress};

/// Ceiling of the first pause: the peer has just failed for a second or two.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Ceiling of all pauses: how long a peer may be back before it is found, without knocking all the time.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between attempts, when there have been so many already.
pub(super) const fn patience(pauses: u32, seed: u64) -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, seed).after(pauses)
}

/// Tries until the peer answers, and tells the pool. The pauses go on from `pauses` that there have been.
pub(super) async fn probe(
    id: u64,
    address: PeerAddress,
    pauses: u32,
    shared: Arc<Shared>,
    events: mpsc::Sender<SessionEvent>,
    stop: CancellationToken,
) {
    let mut backoff = patience(pauses, fastrand::u64(..));
    let answered = async {
        loop {
            sleep(backoff.next()).await;
            shared.counts.attempts();
            if shared.connector.dial(&address, DialPriority::Low).await.is_ok() {
                break;
            }
        }
        // The pool may have stopped.
        let _ = events.send(SessionEvent::now(id, address.clone(), SessionEventKind::Answers)).await;
    };
    stop.run_until_cancelled(answered).await;
}
