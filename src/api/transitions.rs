//! Past changes, page by page, newest first. A page token is the run of the service and a revision: what follows is
//! older than that, however much has happened since.

use std::sync::Arc;

use tonic::Status;

use super::{
    convert,
    paging::{self, Page},
    parse::TransitionQuery,
    pb::{ListTransitionsResponse, Transition},
};
use crate::{
    error_info::invalid,
    status::{Cursor, Event, Hub},
};

/// Events read from the log at a time: few, because reading blocks publishing.
const CHUNK: usize = 512;

/// One page.
pub(super) async fn page(
    hub: &Hub,
    query: &TransitionQuery<'_>,
    page_token: &str,
    page_size: u32,
) -> Result<ListTransitionsResponse, Status> {
    let now = hub.cursor();
    let mut before = paging::after(page_token, |field, token| parse(field, token, now))?.unwrap_or(u64::MAX);
    let mut page = Page::new(page_size);
    let mut read: Vec<Arc<Event>> = Vec::new();
    while !page.is_full() {
        hub.read_before(before, CHUNK, &mut read);
        let Some(last) = read.last() else { break };
        before = last.revision;
        let asked = read.drain(..).filter(|event| query.matches(event));
        page.fill(asked.map(|event| convert::transition(&event)));
        // A long history must not block the thread.
        tokio::task::yield_now().await;
    }
    let token = |last: &Transition| token(Cursor { revision: last.revision, ..now });
    let (transitions, next_page_token) = page.finish(token);
    Ok(ListTransitionsResponse { transitions, next_page_token })
}

fn token(last: Cursor) -> String {
    format!("{:x}-{}", last.epoch, last.revision)
}

/// The revision in a token of this run of the service.
fn parse(field: &str, given: &str, now: Cursor) -> Result<u64, Status> {
    let revision = given.split_once('-').and_then(|(_, revision)| revision.parse().ok());
    let known = revision.filter(|revision| (1..=now.revision).contains(revision));
    // A token has one spelling, which includes the epoch.
    let ours = known.filter(|revision| token(Cursor { revision: *revision, ..now }) == given);
    ours.ok_or_else(|| invalid(field, "BAD_PAGE_TOKEN", "of another list, or of another run of the service"))
}
