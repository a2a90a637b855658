//! What looks how: the colours of statuses and of the output's furniture. Whether there is colour at all is decided
//! once per output and handed down.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style as Ansi};
use clap::ValueEnum;
use rustix::termios::tcgetwinsize;

use crate::api::pb::{PeerStatus, PoolHealth, Reason};

/// No emphasis.
pub const NORMAL: Ansi = Ansi::new();
/// Less important than the rest.
pub const DIM: Ansi = Ansi::new().dimmed();
/// Headers.
pub const BOLD: Ansi = Ansi::new().bold();
/// Failures.
pub const ALARM: Ansi = AnsiColor::Red.on_default().bold();

/// What a command says about itself, between what it was asked for.
pub const NOTICE: Ansi = AnsiColor::Magenta.on_default();

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How one output is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colour and other emphasis.
    pub colour: bool,
    /// How long a line may be.
    pub width: Width,
}

/// How long a line may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// As long as it is.
    #[default]
    Any,
    /// So many columns.
    Columns(usize),
    /// As wide as the terminal that stdout is, which may change from line to line.
    Terminal,
}

impl Style {
    /// Decides for `output`, see [`ColorChoice`].
    #[must_use]
    pub fn of(choice: ColorChoice, output: &impl IsTerminal) -> Self {
        let colour = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => output.is_terminal() && wanted_by_environment(),
        };
        Self { colour, width: Width::Any }
    }

    /// The same for lines on stdout that go by while somebody looks: what a terminal would wrap is cut.
    #[must_use]
    pub fn fitted(self) -> Self {
        let width = if io::stdout().is_terminal() { Width::Terminal } else { Width::Any };
        Self { width, ..self }
    }

    /// How many columns there are for a line; `None`: as many as it takes.
    #[must_use]
    pub fn columns(self) -> Option<usize> {
        match self.width {
            Width::Any => None,
            Width::Columns(columns) => Some(columns),
            Width::Terminal => {
                let columns = tcgetwinsize(io::stdout()).ok()?.ws_col;
                (columns > 0).then_some(columns.into())
            }
        }
    }

    /// Gives `text` a look, where there is colour.
    #[must_use]
    pub fn paint(self, look: Ansi, text: &str) -> String {
        if self.colour && look != NORMAL && !text.is_empty() {
            format!("{look}{text}{look:#}")
        } else {
            text.to_owned()
        }
    }
}

/// See <https://no-color.org>: set and not empty means no.
fn wanted_by_environment() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// The look of a peer's status.
#[must_use]
pub fn status(number: i32) -> Ansi {
    match PeerStatus::try_from(number) {
        Ok(PeerStatus::Ready) => AnsiColor::Green.on_default(),
        Ok(PeerStatus::Connected) => AnsiColor::Cyan.on_default(),
        Ok(PeerStatus::Connecting) => AnsiColor::Yellow.on_default(),
        Ok(PeerStatus::Closing | PeerStatus::Disconnected) => AnsiColor::BrightBlack.on_default(),
        Ok(PeerStatus::Unspecified) | Err(_) => NORMAL,
    }
}

/// The look of a pool's health.
#[must_use]
pub fn health(number: i32) -> Ansi {
    match PoolHealth::try_from(number) {
        Ok(PoolHealth::Healthy) => AnsiColor::Green.on_default().bold(),
        Ok(PoolHealth::Degraded) => AnsiColor::Yellow.on_default().bold(),
        Ok(PoolHealth::Down) => ALARM,
        Ok(PoolHealth::Unspecified) | Err(_) => NORMAL,
    }
}

/// The look of a reason: those that something went wrong with stand out.
#[must_use]
pub fn reason(number: i32) -> Ansi {
    match Reason::try_from(number) {
        Ok(
            Reason::ResolveFailed
            | Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::TlsFailed
            | Reason::HandshakeTimeout
            | Reason::HandshakeRejected
            | Reason::ProtocolError
            | Reason::KeepaliveTimeout
            | Reason::RemoteClosed
            | Reason::GivenUp,
        ) => AnsiColor::Red.on_default(),
        _ => NORMAL,
    }
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
