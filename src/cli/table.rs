//! Aligned columns of text that may have colours. A cell holds nothing that a terminal would act upon, whoever wrote
//! its text.

use anstyle::Style as Ansi;

use crate::{
    api::pb,
    cli::{
        style::{self, Style},
        text,
    },
};

/// Blanks between two columns.
pub const GAP: &str = "  ";

/// Harmless text on one line, in pieces that look different. Measured in characters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    pieces: Vec<(Ansi, String)>,
}

impl Cell {
    /// Text of any origin, made harmless, with a look.
    #[must_use]
    pub fn new(look: Ansi, text: &str) -> Self {
        Self { pieces: vec![(look, text::plain(text))] }
    }

    /// Text without emphasis.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        Self::new(style::NORMAL, text)
    }

    /// A number without emphasis, or nothing for zero, so that what is not zero stands out.
    #[must_use]
    pub fn count(count: u64) -> Self {
        Self::plain(&if count == 0 { String::new() } else { count.to_string() })
    }

    /// A peer's status in its colour.
    #[must_use]
    pub fn status(number: i32) -> Self {
        Self::new(style::status(number), &text::status(number))
    }

    /// A pool's health in its colour.
    #[must_use]
    pub fn health(number: i32) -> Self {
        Self::new(style::health(number), &text::health(number))
    }

    /// Why a peer is in its status, in words.
    #[must_use]
    pub fn reason(peer: &pb::Peer) -> Self {
        Self::new(style::reason(peer.reason), &text::reason(peer.reason))
    }

    /// Why a peer is in its status, with the detail.
    #[must_use]
    pub fn reason_and_detail(peer: &pb::Peer) -> Self {
        Self::new(style::reason(peer.reason), &text::reason_and_detail(peer))
    }

    /// The same text, less important.
    #[must_use]
    pub fn dimmed(mut self) -> Self {
        for (look, _) in &mut self.pieces {
            *look = style::DIM;
        }
        self
    }

    /// This and then that, without a blank between.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.pieces.append(&mut other.pieces);
        self
    }

    /// How many columns of the terminal it takes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// As much of it as goes into so many columns; an ellipsis stands for what does not.
    #[must_use]
    pub fn cut(mut self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(1);
        let mut ellipsis = (columns > 0).then_some('…');
        for (_, text) in &mut self.pieces {
            let length = text.chars().count();
            if length > left {
                *text = text.chars().take(left).chain(ellipsis.take()).collect();
            }
            left = left.saturating_sub(length);
        }
        self
    }

    /// The text.
    #[must_use]
    pub fn show(&self, style: Style) -> String {
        self.pieces.iter().map(|(look, text)| style.paint(*look, text)).collect()
    }
}

/// Joins cells with their widths to a line without blanks at its end, which is cut to the width that there is.
#[must_use]
pub fn line<'a>(cells: impl IntoIterator<Item = (&'a Cell, usize)>, style: Style) -> String {
    let mut line = Cell::default();
    let mut pending = String::new();
    for (cell, width) in cells {
        if cell.width() > 0 {
            line = line.and(Cell::plain(&std::mem::take(&mut pending))).and(cell.clone());
        }
        pending.push_str(&" ".repeat(width.saturating_sub(cell.width())));
        pending.push_str(GAP);
    }
    line.cut(style.columns().unwrap_or(usize::MAX)).show(style)
}

/// Rows under a header.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table. Without a header it begins with its first row.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|title| Cell::new(style::BOLD, title)).collect(), rows: Vec::new() }
    }

    /// Adds a row at the end.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each column as wide as its widest cell.
    #[must_use]
    pub fn lines(&self, style: Style) -> Vec<String> {
        let all = || std::iter::once(&self.header).filter(|header| !header.is_empty()).chain(&self.rows);
        let mut widths: Vec<usize> = Vec::new();
        for row in all() {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        all().map(|row| line(row.iter().zip(widths.iter().copied()), style)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Width;

    fn table() -> Table {
        let mut table = Table::new(&["PEER", "STATUS", "DETAIL"]);
        table.push(vec![Cell::plain("größe:1"), Cell::status(4), Cell::plain("")]);
        table.push(vec![Cell::plain("a:1"), Cell::status(2), Cell::plain("x\x1b[2J\ny")]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_the_end() {
        assert_eq!(
            table().lines(Style::default()),
            ["PEER     STATUS      DETAIL", "größe:1  READY", "a:1      CONNECTING  x·[2J y"]
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        assert_eq!(
            table().lines(Style { colour: true, ..Style::default() }),
            [
                "\x1b[1mPEER\x1b[0m     \x1b[1mSTATUS\x1b[0m      \x1b[1mDETAIL\x1b[0m",
                "größe:1  \x1b[32mREADY\x1b[0m",
                "a:1      \x1b[33mCONNECTING\x1b[0m  x·[2J y"
            ]
        );
    }

    #[test]
    fn lines_are_cut_to_the_width_that_there_is() {
        let cut = |columns, colour| table().lines(Style { colour, width: Width::Columns(columns) });
        assert_eq!(
            cut(25, false),
            ["PEER     STATUS      DET…", "größe:1  READY", "a:1      CONNECTING  x·[…"]
        );
        assert_eq!(cut(9, true)[1], "größe:1 …", "not a letter of what comes after");
        assert_eq!(cut(11, true)[1], "größe:1  \x1b[32mR…\x1b[0m", "colours take no room");
        for columns in 0..40 {
            for line in cut(columns, false) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn a_table_may_have_no_header() {
        let mut table = Table::new(&[]);
        assert!(table.is_empty());
        table.push(vec![Cell::plain("name"), Cell::count(0), Cell::count(7)]);
        assert_eq!(table.lines(Style::default()), ["name    7"]);
    }
}
