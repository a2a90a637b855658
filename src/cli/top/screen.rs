//! The terminal, and the thread that draws on it and reads its keys.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use parking_lot::Mutex;
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, Event, KeyEventKind},
        terminal::{disable_raw_mode, is_raw_mode_enabled},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    End,
    model::{Effect, Model},
    paint::Look,
    service::Service,
    view,
};
use crate::{
    api::pb::Peer,
    cli::{exit::Failure, service_clock},
};

/// How long to wait for a key before looking for changes: nobody sees less.
const WAIT: Duration = Duration::from_millis(100);
/// Ages are in seconds.
const SECOND: Duration = Duration::from_secs(1);

/// Draws and handles keys until `stop`, or until a key ends it.
pub(super) fn run(
    model: &Mutex<Model>,
    fresh: &Mutex<Vec<Peer>>,
    service: &Service,
    look: Look,
    stop: &CancellationToken,
) -> Result<End, Failure> {
    let mut screen = Screen::open()?;
    let (mut drawn, mut ticked) = (None, Instant::now());
    while !stop.is_cancelled() {
        if !is_raw_mode_enabled()? {
            return Err(anyhow!("a panic in another thread has restored the terminal").into());
        }
        if ticked.elapsed() >= SECOND {
            (ticked, drawn) = (Instant::now(), None);
            model.lock().refresh(std::mem::take(&mut *fresh.lock()));
            let due = model.lock().tick(service_clock::now());
            if let Some(effect) = due {
                service.run(effect);
            }
        }
        let version = model.lock().version;
        if drawn != Some(version) {
            screen.draw(model, look)?;
            drawn = Some(version);
        }
        if !event::poll(WAIT)? {
            continue;
        }
        let effect = match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => model.lock().key(key),
            Event::Resize(..) => {
                drawn = None;
                None
            }
            _ => None,
        };
        match effect {
            Some(Effect::Quit) => return Ok(End::Quit),
            Some(Effect::Interrupt) => return Ok(End::Interrupted),
            Some(effect) => service.run(effect),
            None => {}
        }
    }
    Ok(End::Quit)
}

/// The terminal in raw mode, on its alternate screen. Dropping it restores the terminal. In a panic, ratatui's hook does,
/// before the message is printed.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        let opened = ratatui::try_init();
        if opened.is_err() {
            let _ = ratatui::try_restore();
        }
        Ok(Self(opened?))
    }

    fn draw(&mut self, model: &Mutex<Model>, look: Look) -> Result<(), Failure> {
        self.0.draw(|frame| {
            let mut model = model.lock();
            let shown = view::draw(&model, look, service_clock::now(), frame);
            model.fit(shown);
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // An error means that there is no terminal any more.
        let _ = self.0.show_cursor();
        if is_raw_mode_enabled().unwrap_or(false) {
            let _ = ratatui::try_restore();
        }
    }
}

/// For a terminal that takes no output, so that at least its line editing is as it was.
pub(super) fn leave_raw_mode() {
    let _ = disable_raw_mode();
}
