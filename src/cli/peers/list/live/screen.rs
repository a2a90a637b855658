//! The list on a terminal, drawn again over itself.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use super::{super::total, Known, View};
use crate::{
    api::pb::{Peer, WatchPeerStatusResponse},
    cli::{
        exit::Failure,
        service_clock,
        style::{self, Style},
        table::Cell,
        watch::{follow::Sink, notice},
    },
    client::Notice,
};

/// Not more often: nobody can read faster, and a terminal far away is slow.
const REDRAW: Duration = Duration::from_millis(200);

pub(super) struct Screen {
    view: View,
    style: Style,
    pub(super) known: Known,
    /// Counters that were asked for.
    fresh: Arc<Mutex<Vec<Peer>>>,
    /// What the watch has to say while there is no stream.
    trouble: Option<String>,
    /// Lines on the screen, and how wide it was.
    drawn: (usize, Option<usize>),
    last: Option<Instant>,
}

impl Screen {
    pub(super) fn new(view: View, style: Style, fresh: Arc<Mutex<Vec<Peer>>>) -> Self {
        let drawn = (0, style.columns);
        Self { view, style, known: Known::default(), fresh, trouble: None, drawn, last: None }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        self.style.columns = style::terminal_columns();
        let text = self.text(style::terminal_rows().unwrap_or(usize::MAX), service_clock::now());
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        self.last = Some(Instant::now());
        Ok(stdout.flush()?)
    }

    /// The list, as many lines of it as there is room for, and the sequences that put it over the last one.
    pub(super) fn text(&mut self, rows: usize, now: SystemTime) -> String {
        let shown = self.view.of(self.known.peers());
        let mut table = self.view.lines(&shown, String::new(), self.style, now);
        table.pop();
        let mut end = total(self.known.peers());
        if let Some(trouble) = &self.trouble {
            end = format!("{end}; {trouble}");
        }
        let room = rows.saturating_sub(2); // for the end, and for the line of the cursor
        if table.len() > room {
            table.truncate(room);
            end = format!("{end}; not all fit on the screen");
        }
        table.push(Cell::plain(end).cut(self.style.columns.unwrap_or(usize::MAX)).show(self.style));
        let (above, width) = std::mem::replace(&mut self.drawn, (table.len(), self.style.columns));
        // What was drawn on a terminal of another width may take any number of lines now.
        let begin = match (above, width == self.style.columns) {
            (_, false) => "\x1b[H\x1b[J".to_owned(),
            (0, true) => String::new(),
            (above, true) => format!("\x1b[{above}F\x1b[J"),
        };
        format!("{begin}{}\n", table.join("\n"))
    }
}

impl Sink for Screen {
    fn message(&mut self, message: &WatchPeerStatusResponse) -> Result<(), Failure> {
        self.trouble = None;
        let changed = self.known.apply(message);
        match changed.is_empty() || self.last.is_some_and(|last| last.elapsed() < REDRAW) {
            true => Ok(()), // the next tick draws it
            false => self.draw(),
        }
    }

    fn notice(&mut self, notice: &Notice) {
        self.trouble = match notice {
            Notice::Lost { .. } => Some(notice::text(notice)),
            _ => None,
        };
        let _ = self.draw(); // the next one fails, too, and its error is reported
    }

    fn tick(&mut self, _: bool) -> Result<(), Failure> {
        self.known.refresh(std::mem::take(&mut *self.fresh.lock()));
        self.draw()
    }
}
