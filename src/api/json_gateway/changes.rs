//! The newest changes as JSON, encoded once for all pages that show them.

use std::{sync::Arc, time::SystemTime};

use parking_lot::Mutex;

use crate::{
    api::{convert, json},
    status::{Event, Parts},
};

/// Encodings that are kept, 1 KiB each or less. Pages read changes at nearly the same time.
const KEPT: usize = 1024;

/// An encoding, and of what it is.
type Slot = Option<(u64, SystemTime, Parts, Arc<str>)>;

/// A slot for each of the newest revisions.
#[derive(Default)]
pub(super) struct EncodedChanges(Mutex<Vec<Slot>>);

impl EncodedChanges {
    /// The `Change` as JSON.
    pub(super) fn encode(&self, event: &Event, parts: Parts) -> anyhow::Result<Arc<str>> {
        // Revisions of a fleet have holes.
        let number = event.revision ^ (event.revision >> 16);
        let index = usize::try_from(number % KEPT as u64)?;
        // The time too: a fleet's revisions begin anew with its stream.
        if let Some(Some((revision, time, of, encoded))) = self.0.lock().get(index)
            && (*revision, *time, *of) == (event.revision, event.time, parts)
        {
            return Ok(Arc::clone(encoded));
        }
        let encoded: Arc<str> = json::line(&convert::change(event, parts))?.into();
        let mut slots = self.0.lock();
        if slots.is_empty() {
            slots.resize(KEPT, None);
        }
        if let Some(slot) = slots.get_mut(index) {
            *slot = Some((event.revision, event.time, parts, Arc::clone(&encoded)));
        }
        Ok(encoded)
    }
}
