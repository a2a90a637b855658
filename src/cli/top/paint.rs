//! Text with the colours and characters that the terminal has.

use std::io;

use anstyle::{AnsiColor, Color as Ansi, Effects};
use clap::ColorChoice;
use ratatui::{
    crossterm,
    style::{Color, Modifier, Style as Painted},
    text::{Line, Span},
};
use unicode_width::UnicodeWidthChar as _;

use crate::cli::{
    style::{self, Style},
    table::Cell,
};

/// What the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Colour and other emphasis.
    pub(super) colour: bool,
    /// More than ASCII.
    pub(super) unicode: bool,
}

impl Look {
    /// Of the terminal that stdout is.
    pub(super) fn of_terminal(choice: ColorChoice) -> Self {
        let colour = Style::of(choice, &io::stdout()).colour;
        crossterm::style::force_color_output(colour); // it reads NO_COLOR by itself
        Self { colour, unicode: style::is_unicode_terminal() }
    }

    /// A line of the screen, no wider than this.
    pub(super) fn line(self, cell: Cell, columns: usize) -> Line<'static> {
        let cell = cell.cut(columns);
        let pieces = cell.pieces().map(|(look, text)| {
            let text = if self.unicode { text.to_owned() } else { ascii(text) };
            Span::styled(text, if self.colour { painted(look) } else { Painted::new() })
        });
        Line::from_iter(pieces)
    }

    /// The look of what is selected, beside its mark.
    pub(super) fn selection(self) -> Painted {
        if self.colour { Painted::new().add_modifier(Modifier::REVERSED) } else { Painted::new() }
    }
}

/// Each character that ASCII does not have as one of the same width that it has.
fn ascii(text: &str) -> String {
    let replaced = text.chars().map(|c| match c {
        '●' => "o".to_owned(),
        '▲' => "^".to_owned(),
        '✕' | '×' => "x".to_owned(),
        '…' => "~".to_owned(),
        '·' => ".".to_owned(),
        '→' => ">".to_owned(),
        c if c.is_ascii() => c.to_string(),
        c => "?".repeat(c.width().unwrap_or(1)),
    });
    replaced.collect()
}

fn painted(look: anstyle::Style) -> Painted {
    let mut painted = Painted::new();
    if let Some(Ansi::Ansi(colour)) = look.get_fg_color() {
        painted = painted.fg(ansi(colour));
    }
    for (effect, modifier) in [(Effects::BOLD, Modifier::BOLD), (Effects::DIMMED, Modifier::DIM)] {
        if look.get_effects().contains(effect) {
            painted = painted.add_modifier(modifier);
        }
    }
    painted
}

/// The same colour: ratatui calls the bright ones light, and bright black dark grey.
const fn ansi(colour: AnsiColor) -> Color {
    match colour {
        AnsiColor::Black => Color::Black,
        AnsiColor::Red => Color::Red,
        AnsiColor::Green => Color::Green,
        AnsiColor::Yellow => Color::Yellow,
        AnsiColor::Blue => Color::Blue,
        AnsiColor::Magenta => Color::Magenta,
        AnsiColor::Cyan => Color::Cyan,
        AnsiColor::White => Color::Gray,
        AnsiColor::BrightBlack => Color::DarkGray,
        AnsiColor::BrightRed => Color::LightRed,
        AnsiColor::BrightGreen => Color::LightGreen,
        AnsiColor::BrightYellow => Color::LightYellow,
        AnsiColor::BrightBlue => Color::LightBlue,
        AnsiColor::BrightMagenta => Color::LightMagenta,
        AnsiColor::BrightCyan => Color::LightCyan,
        AnsiColor::BrightWhite => Color::White,
    }
}
