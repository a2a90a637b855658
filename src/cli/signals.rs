//! Ends a command that handles signals itself and does not get to them, because it waits to write to a full pipe.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// How long a command has to end after the last signal that it needs.
const GRACE: Duration = Duration::from_secs(3);

/// The signals that a command handles itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// None: the system ends it.
    Nothing,
    /// Ctrl-C ends it.
    Interrupt,
    /// SIGTERM or Ctrl-C ends it.
    Any,
    /// The first SIGTERM or Ctrl-C stops it in order, which takes its time, and the second one ends it.
    Twice,
}

/// Returns when the command should have ended.
pub(super) async fn overdue(handled: Handled) -> io::Result<()> {
    let mut left = match handled {
        Handled::Nothing => return std::future::pending().await,
        Handled::Interrupt | Handled::Any => 1,
        Handled::Twice => 2,
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate =
        if handled == Handled::Interrupt { None } else { Some(signal(SignalKind::terminate())?) };
    while left > 0 {
        let terminated = async {
            match &mut terminate {
                Some(terminate) => terminate.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => left -= 1,
            _ = terminated => left -= 1,
        }
    }
    sleep(GRACE).await;
    Ok(())
}
