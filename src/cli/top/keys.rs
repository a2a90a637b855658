//! What keys do to the state.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Effect, Model, Page};
use crate::cli::{peers::list::Sort, text};

/// Longer filters match nothing.
const MAX_FILTER: usize = 200;

/// The keys, for the help page.
pub(super) const HELP: &[(&str, &str)] = &[
    ("arrows, j k", "move"),
    ("PgUp PgDn, Home End", "move by pages, to the first and to the last"),
    ("Enter", "details and history of the peer"),
    ("Esc", "back; in the list: clear the filter and select the first"),
    ("/", "only peers with these words: a part of an address, a status, a reason, flapping, parked"),
    ("", "Enter keeps the filter, Esc clears it"),
    ("w", "order: the worst first"),
    ("n", "order: by name"),
    ("f", "order: lost most often (FLAPS)"),
    ("F", "order: failed most often (FAILURES)"),
    ("p", "one pool after the other, then all"),
    ("r", "reset the peer: close its connection and start over (role operator)"),
    ("?", "this page"),
    ("q, Ctrl-C", "quit"),
];

impl Model {
    /// Handles a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Effect> {
        self.version += 1;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Effect::Interrupt),
                KeyCode::Char('u') if self.is_typing => {
                    self.filter.clear();
                    self.arrange();
                    None
                }
                _ => None,
            };
        }
        if self.question.is_some() {
            return self.answer(key.code);
        }
        if self.is_typing && self.types(key.code) {
            return None;
        }
        self.message = None;
        match (key.code, &self.page) {
            (KeyCode::Char('q'), _) => return Some(Effect::Quit),
            (KeyCode::Esc | KeyCode::Enter | KeyCode::Char('?'), Page::Help)
            | (KeyCode::Esc | KeyCode::Backspace | KeyCode::Left, Page::Detail(_)) => self.page = Page::Peers,
            (KeyCode::Char('?'), _) => self.page = Page::Help,
            (KeyCode::Char('r'), _) => self.question = self.peer().cloned().map(Box::new),
            (KeyCode::Enter, Page::Peers) => return self.open(),
            (code, Page::Peers) => self.in_list(code),
            (code, Page::Detail(_)) => self.scroll(code),
            (_, Page::Help) => {}
        }
        None
    }

    /// The answer to the question whether to reset.
    fn answer(&mut self, code: KeyCode) -> Option<Effect> {
        let peer = self.question.take()?;
        if let KeyCode::Char('y' | 'Y') = code {
            self.message = Some(format!("resetting {} …", text::peer_address(&peer.name)));
            return Some(Effect::Reset(peer));
        }
        self.message = Some("not reset".to_owned());
        None
    }

    /// A key for the filter; false if it is none.
    fn types(&mut self, code: KeyCode) -> bool {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.clear_filter();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(typed) if self.filter.len() < MAX_FILTER => {
                self.filter.push_str(&text::plain(typed.encode_utf8(&mut [0; 4])));
            }
            KeyCode::Char(_) => {}
            _ => return false,
        }
        self.arrange();
        true
    }

    fn in_list(&mut self, code: KeyCode) {
        let page = isize::try_from(self.shown.page.max(1)).unwrap_or(1);
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(self.rows.len().saturating_sub(1)),
            KeyCode::Char('w') => self.order(Sort::Worst),
            KeyCode::Char('n') => self.order(Sort::Name),
            KeyCode::Char('f') => self.order(Sort::Flaps),
            KeyCode::Char('F') => self.order(Sort::Failures),
            KeyCode::Char('p') => self.next_pool(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.clear_filter(),
            _ => {}
        }
    }

    fn order(&mut self, sort: Sort) {
        self.sort = sort;
        self.arrange();
    }

    fn scroll(&mut self, code: KeyCode) {
        let (page, last) = (self.shown.page.max(1), self.shown.max_scroll);
        let Page::Detail(detail) = &mut self.page else { return };
        let to = match code {
            KeyCode::Up | KeyCode::Char('k') => detail.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => detail.scroll.saturating_add(1),
            KeyCode::PageUp => detail.scroll.saturating_sub(page),
            KeyCode::PageDown => detail.scroll.saturating_add(page),
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => return,
        };
        detail.scroll = to.min(last);
    }
}
