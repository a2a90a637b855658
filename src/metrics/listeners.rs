//! What is counted of listeners and their streams.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::LowercaseLabel;

/// Defines an enum whose variants have a word each, as the value of a label.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// How a stream was attached. The first that is true.
    Attach {
        /// Another one had to go.
        Takeover = "takeover",
        /// It goes on after the client's cursor.
        Resumed = "resumed",
        /// Its listener was made with it, and goes with it.
        Ephemeral = "ephemeral",
        /// It begins with a snapshot.
        New = "new",
    }
}

words! {
    /// Why a stream is attached no more.
    Detach {
        /// The client or the connection to it is gone.
        ClientGone = "client_gone",
        /// The listener was destroyed.
        Destroyed = "destroyed",
        /// Another stream took its place.
        TakenOver = "taken_over",
        /// The service stops.
        Draining = "draining",
        /// It was to end once the client is up to date.
        Synced = "synced",
        /// It fell behind the log, and the client wanted it to end then.
        Overflow = "overflow",
        /// What the client was let in with has run out.
        Expired = "expired",
        /// What the client was let in with is not accepted any more.
        Revoked = "revoked",
    }
}

words! {
    /// Why a stream started over.
    Reset {
        /// It fell behind the log.
        Overflow = "overflow",
        /// The client's cursor was older than the log.
        Compacted = "compacted",
        /// The client's cursor was of another run of the service.
        EpochChanged = "epoch_changed",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: LowercaseLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: LowercaseLabel,
}

/// What is counted of listeners. Clones share it.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    attaches: Family<Kind, Counter>,
    detaches: Family<Why, Counter>,
    resets: Family<Why, Counter>,
    missed: Counter,
}

impl Default for ListenerMetrics {
    /// All of them are there at once, so that rates begin at zero.
    fn default() -> Self {
        let (attaches, detaches, resets) = (Family::default(), Family::default(), Family::default());
        let count = |family: &Family<Why, Counter>, word| {
            drop(family.get_or_create(&Why { reason: LowercaseLabel(word) }))
        };
        Attach::ALL
            .iter()
            .for_each(|how| drop(attaches.get_or_create(&Kind { kind: LowercaseLabel(how.word()) })));
        Detach::ALL.iter().for_each(|why| count(&detaches, why.word()));
        Reset::ALL.iter().for_each(|why| count(&resets, why.word()));
        Self { attaches, detaches, resets, missed: Counter::default() }
    }
}

impl ListenerMetrics {
    /// A stream was attached.
    pub fn attached(&self, how: Attach) {
        self.attaches.get_or_create(&Kind { kind: LowercaseLabel(how.word()) }).inc();
    }

    /// A stream is attached no more.
    pub fn detached(&self, why: Detach) {
        self.detaches.get_or_create(&Why { reason: LowercaseLabel(why.word()) }).inc();
    }

    /// A stream started over; so many changes were replaced by its snapshot.
    pub fn reset(&self, why: Reset, missed: u64) {
        self.resets.get_or_create(&Why { reason: LowercaseLabel(why.word()) }).inc();
        self.missed.inc_by(missed);
    }

    /// Adds it to what is exported.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Streams that were attached to a listener";
        registry.register("opflex_peerstatus_attaches", help, self.attaches.clone());
        let help = "Streams that ended";
        registry.register("opflex_peerstatus_detaches", help, self.detaches.clone());
        let help = "Streams that had to start over from a snapshot";
        registry.register("opflex_peerstatus_resets", help, self.resets.clone());
        let help = "Changes that were replaced by snapshots then";
        registry.register("opflex_peerstatus_missed_changes", help, self.missed.clone());
    }
}
