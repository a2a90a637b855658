//! Colours of statuses and of the output's other parts, and whether an output has colour at all.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style as Ansi};
use clap::ColorChoice;
use rustix::termios::tcgetwinsize;

use crate::api::pb::{PeerStatus, PoolHealth, Reason};

/// No emphasis.
pub(crate) const NORMAL: Ansi = Ansi::new();
/// Less important than the rest.
pub(crate) const DIM: Ansi = Ansi::new().dimmed();
/// Headers.
pub(crate) const BOLD: Ansi = Ansi::new().bold();
/// What comes and goes.
pub(crate) const FLAPPING: Ansi = AnsiColor::Yellow.on_default().bold();
/// A status or a health that is not known.
const UNKNOWN: Ansi = AnsiColor::Magenta.on_default().bold();
/// Failures.
pub(crate) const ALARM: Ansi = AnsiColor::Red.on_default().bold();
/// Notices on stderr.
pub(crate) const NOTICE: Ansi = AnsiColor::Magenta.on_default();

/// How one output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether to use colour and other emphasis.
    pub(crate) colour: bool,
    /// The width of the terminal; `None`: lines are as long as their text.
    pub(crate) columns: Option<usize>,
}

impl Style {
    /// For `output`, with lines of any length.
    pub(crate) fn of(choice: ColorChoice, output: &impl IsTerminal) -> Self {
        let colour = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => output.is_terminal() && wanted_by_environment(),
        };
        Self { colour, columns: None }
    }

    /// For stdout, with lines that fit the terminal.
    pub(crate) fn of_stdout(choice: ColorChoice) -> Self {
        Self { columns: terminal_columns(), ..Self::of(choice, &io::stdout()) }
    }

    /// `text` with a look, if there is colour.
    pub(crate) fn paint(self, look: Ansi, text: &str) -> String {
        if self.colour && look != NORMAL && !text.is_empty() {
            format!("{look}{text}{look:#}")
        } else {
            text.to_owned()
        }
    }
}

/// The width of the terminal that stdout is, if it is one.
pub(crate) fn terminal_columns() -> Option<usize> {
    let columns = tcgetwinsize(io::stdout()).ok()?.ws_col;
    (columns > 0).then_some(columns.into())
}

/// Its height.
pub(crate) fn terminal_rows() -> Option<usize> {
    let rows = tcgetwinsize(io::stdout()).ok()?.ws_row;
    (rows > 0).then_some(rows.into())
}

/// See <https://no-color.org>: set and not empty means no.
fn wanted_by_environment() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Whether the terminal shows Unicode, by the locale as POSIX orders its variables.
pub(crate) fn is_unicode_terminal() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_string_lossy().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// The look of a peer's status.
pub(crate) fn status(number: i32) -> Ansi {
    match PeerStatus::try_from(number) {
        Ok(PeerStatus::Ready) => AnsiColor::Green.on_default(),
        // Only READY looks well: a peer that never answers is CONNECTED.
        Ok(PeerStatus::Connecting | PeerStatus::Connected) => AnsiColor::Yellow.on_default(),
        Ok(PeerStatus::Closing | PeerStatus::Disconnected) => AnsiColor::BrightBlack.on_default(),
        Ok(PeerStatus::Unspecified) => UNKNOWN,
        Err(_) => NORMAL,
    }
}

/// The look of a pool's health.
pub(crate) fn health(number: i32) -> Ansi {
    match PoolHealth::try_from(number) {
        Ok(PoolHealth::Healthy) => AnsiColor::Green.on_default().bold(),
        Ok(PoolHealth::Degraded) => AnsiColor::Yellow.on_default().bold(),
        Ok(PoolHealth::Down) => ALARM,
        Ok(PoolHealth::Unspecified) => UNKNOWN,
        Err(_) => NORMAL,
    }
}

/// The look of a reason: failures stand out.
pub(crate) fn reason(number: i32) -> Ansi {
    if is_failure(number) { AnsiColor::Red.on_default() } else { NORMAL }
}

/// Whether an attempt or a connection failed for this reason.
pub(crate) fn is_failure(number: i32) -> bool {
    matches!(
        Reason::try_from(number),
        Ok(Reason::ResolveFailed
            | Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::TlsFailed
            | Reason::HandshakeTimeout
            | Reason::HandshakeRejected
            | Reason::ProtocolError
            | Reason::KeepaliveTimeout
            | Reason::RemoteClosed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_appears_only_where_it_is_wanted() {
        let ready = status(PeerStatus::Ready as i32);
        let coloured = Style { colour: true, ..Style::default() };
        assert_eq!(Style::default().paint(ready, "READY"), "READY");
        assert_eq!(coloured.paint(ready, "READY"), "\x1b[32mREADY\x1b[0m");
        assert_eq!(coloured.paint(NORMAL, "x"), "x");
        assert!(Style::of(ColorChoice::Always, &std::io::stdout()).colour);
        assert!(!Style::of(ColorChoice::Never, &std::io::stdout()).colour);
    }
}
