//! Whether the process that the state of a node is of is alive.

use std::time::Duration;

use super::{Node, Step};
use crate::{
    api::pb,
    fleet::{Header, reader::parse},
    status::Liveness,
};

/// Two nodes with one name are reported until one of them has given no sign of life for so long.
const CONFLICT_TIME: Duration = Duration::from_secs(120);

impl Node {
    /// A sign of life.
    pub(super) fn up(&mut self, node: &pb::Node, header: &Header, step: &mut Step) {
        self.up = Some(header.epoch);
        if !self.is_committed(header.epoch) {
            self.note_other_process(step);
            return;
        }
        self.last_sign = Some(step.receipt);
        self.learn_liveness(step);
        self.advance(header.revision, header.revision > self.view.revision, step);
        self.anchor(header.revision);
        // Those that are left out are not known.
        self.counted = (node.pool_count > 0).then_some((header.revision, node.peer_count)).or(self.counted);
        let (has_all, is_short) = (self.has_all(), self.is_short());
        let has_break = step.is_break;
        let is_over = self.conflict_at.is_some_and(|at| step.stored > at + CONFLICT_TIME);
        let (stored, revision, version) = (step.stored, self.view.revision, parse::version(node));
        self.conflict_at = self.conflict_at.filter(|_| !is_over);
        self.change_node(step, |state| {
            (state.liveness, state.stale_since) = (Liveness::Live, None);
            (state.last_seen, state.own_revision, state.version) = (stored, revision, version);
            state.chain_breaks += u64::from(has_break);
            state.has_conflict &= !is_over;
            state.is_incomplete = is_short || state.is_incomplete && !has_all;
        });
    }

    /// Another process of the name is alive. A snapshot with its sign of life does not have the last sign of the one that the
    /// state is of: they replace each other.
    pub(super) fn note_other_process(&self, step: &mut Step) {
        step.is_uncertain |= step.effects.is_some() && self.state.is_some() && self.is_liveness_unknown;
    }

    /// There was no sign of life for too long.
    pub(in crate::fleet::reader) fn become_stale(&mut self, step: &mut Step) {
        self.learn_liveness(step);
        let since = step.stored;
        self.change_node(step, |state| {
            state.liveness = Liveness::Stale;
            state.stale_since = state.stale_since.or(Some(since));
        });
    }
}
