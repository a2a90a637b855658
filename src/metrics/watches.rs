//! Counters of the streams of listeners, and the age of changes when they are handed to a client's transport.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{KindLabel, LowercaseLabel, ReasonLabel};
use crate::status::{AttachKind, EndReason, ResetReason};

/// Upper bounds in seconds: from one change for one client to a client that is a minute behind.
const BOUNDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 60.0,
];

const ATTACHES: [AttachKind; 4] =
    [AttachKind::Takeover, AttachKind::Resumed, AttachKind::Ephemeral, AttachKind::New];
const DETACHES: [DetachReason; 9] = [
    DetachReason::ClientGone,
    DetachReason::Ended(EndReason::Destroyed),
    DetachReason::Ended(EndReason::TakenOver),
    DetachReason::Ended(EndReason::Draining),
    DetachReason::Synced,
    DetachReason::Ended(EndReason::Overflow),
    DetachReason::Ended(EndReason::EpochChanged),
    DetachReason::Expired,
    DetachReason::Revoked,
];
const RESETS: [ResetReason; 3] = [ResetReason::Overflow, ResetReason::Compacted, ResetReason::EpochChanged];

/// Why a stream was detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetachReason {
    /// The client ended the stream or disconnected.
    ClientGone,
    /// The client asked for the stream to end after the initial sync.
    Synced,
    /// The client's credentials expired.
    Expired,
    /// The client's credentials are no longer accepted.
    Revoked,
    /// The service ended it.
    Ended(EndReason),
}

/// Metrics of watches. Clones share them; each watch has one.
#[derive(Clone, Debug)]
pub struct WatchMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    attaches: Family<KindLabel, Counter>,
    detaches: Family<ReasonLabel, Counter>,
    resets: Family<ReasonLabel, Counter>,
    missed: Counter,
    delivery: Histogram,
}

impl Default for WatchMetrics {
    /// Creates all counters, so that rates begin at zero.
    fn default() -> Self {
        let (attaches, detaches, resets) = (Family::default(), Family::default(), Family::default());
        ATTACHES.into_iter().for_each(|kind| drop(attaches.get_or_create(&attach_label(kind))));
        DETACHES.into_iter().for_each(|reason| drop(detaches.get_or_create(&detach_label(reason))));
        RESETS.into_iter().for_each(|reason| drop(resets.get_or_create(&reset_label(reason))));
        let (missed, delivery) = (Counter::default(), Histogram::new(BOUNDS));
        Self(Arc::new(Inner { attaches, detaches, resets, missed, delivery }))
    }
}

impl WatchMetrics {
    /// A stream was attached.
    pub fn attached(&self, kind: AttachKind) {
        self.0.attaches.get_or_create(&attach_label(kind)).inc();
    }

    /// A stream was detached.
    pub fn detached(&self, reason: DetachReason) {
        self.0.detaches.get_or_create(&detach_label(reason)).inc();
    }

    /// A stream started over; its snapshot replaced `missed` changes.
    pub fn reset(&self, reason: ResetReason, missed: u64) {
        self.0.resets.get_or_create(&reset_label(reason)).inc();
        self.0.missed.inc_by(missed);
    }

    /// Records `count` changes handed to the transport, with the `age` of the oldest.
    pub fn delivered(&self, age: Duration, count: usize) {
        (0..count).for_each(|_| self.0.delivery.observe(age.as_secs_f64()));
    }

    /// Registers them for export.
    pub fn register(&self, registry: &mut Registry) {
        let Inner { attaches, detaches, resets, missed, delivery } = &*self.0;
        let help = "Streams that were attached to a listener";
        registry.register("opflex_peerstatus_attaches", help, attaches.clone());
        registry.register("opflex_peerstatus_detaches", "Streams that ended", detaches.clone());
        let help = "Streams that had to start over from a snapshot";
        registry.register("opflex_peerstatus_resets", help, resets.clone());
        let help = "Changes that clients missed because a snapshot replaced them";
        registry.register("opflex_peerstatus_missed_changes", help, missed.clone());
        let help = "Time from observing a change to handing it to the transport of a client";
        registry.register_with_unit("opflex_peerstatus_delivery", help, Unit::Seconds, delivery.clone());
    }
}

const fn attach_label(kind: AttachKind) -> KindLabel {
    let kind = match kind {
        AttachKind::Takeover => "takeover",
        AttachKind::Resumed => "resumed",
        AttachKind::Ephemeral => "ephemeral",
        AttachKind::New => "new",
    };
    KindLabel { kind: LowercaseLabel(kind) }
}

const fn detach_label(reason: DetachReason) -> ReasonLabel {
    let reason = match reason {
        DetachReason::ClientGone => "client_gone",
        DetachReason::Synced => "synced",
        DetachReason::Expired => "expired",
        DetachReason::Revoked => "revoked",
        DetachReason::Ended(EndReason::Destroyed) => "destroyed",
        DetachReason::Ended(EndReason::TakenOver) => "taken_over",
        DetachReason::Ended(EndReason::Draining) => "draining",
        DetachReason::Ended(EndReason::Overflow) => "overflow",
        DetachReason::Ended(EndReason::EpochChanged) => "epoch_changed",
    };
    ReasonLabel { reason: LowercaseLabel(reason) }
}

const fn reset_label(reason: ResetReason) -> ReasonLabel {
    let reason = match reason {
        ResetReason::Overflow => "overflow",
        ResetReason::Compacted => "compacted",
        ResetReason::EpochChanged => "epoch_changed",
    };
    ReasonLabel { reason: LowercaseLabel(reason) }
}
