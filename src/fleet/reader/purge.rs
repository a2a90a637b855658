//! Whether the stream still has what nodes published. The server writes no marker for what somebody purged.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt as _;
use tracing::warn;

use super::{core::FleetCore, messages::ReadError};
use crate::fleet::{Name, Subject};

/// How often it is checked. A node that is alive has published its state again by then.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(20);

/// The nodes whose commits the stream did not have at the last check.
#[derive(Default)]
pub(super) struct PurgeCheck {
    missing: BTreeSet<Arc<str>>,
}

impl PurgeCheck {
    /// Removes nodes whose commits are missing, as at the last check: those that were gone only then may have had a marker.
    pub(super) async fn run(
        &mut self,
        stream: &Stream,
        cluster: &Name,
        core: &mut FleetCore,
    ) -> Result<(), ReadError> {
        let mut info = stream.info_with_subjects(Subject::of_commits(cluster)).await?;
        let mut found = BTreeSet::new();
        while let Some((subject, _)) = info.try_next().await? {
            found.extend(subject.split('.').nth(3).map(str::to_ascii_lowercase));
        }
        let missing: BTreeSet<_> =
            core.committed().filter(|node| !found.contains(&***node)).cloned().collect();
        for node in missing.intersection(&self.missing) {
            warn!(%node, "somebody deleted the records of a node: it is gone");
            core.purge(Arc::clone(node));
        }
        self.missing = missing;
        Ok(())
    }
}
