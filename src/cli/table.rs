//! Text in aligned columns that fit the terminal, measured in columns of the terminal and not in characters. Every
//! cell is made harmless for a terminal, so callers may pass text of any origin.

use std::iter;

use anstyle::Style as Ansi;
use unicode_width::UnicodeWidthChar as _;

use crate::{
    api::pb,
    cli::{
        style::{self, Style},
        text,
    },
};

/// Blanks between two columns.
const GAP: usize = 2;
/// Width reserved for the last column on a narrow terminal.
const LAST_COLUMN: usize = 8;
/// With less than this left for it, a remark goes below its row.
const REMARK: usize = 40;

/// Text on one line, in pieces that look different.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pieces: Vec<(Ansi, String)>,
}

impl Cell {
    /// Text with a look.
    pub(crate) fn new(look: Ansi, text: &str) -> Self {
        Self { pieces: vec![(look, text::plain(text))] }
    }

    /// Text without emphasis, or a number.
    pub(crate) fn plain(text: impl ToString) -> Self {
        Self::new(style::NORMAL, &text.to_string())
    }

    /// A peer's status in its colour.
    pub(crate) fn status(number: i32) -> Self {
        Self::new(style::status(number), &text::status(number))
    }

    /// A pool's health in its colour.
    pub(crate) fn health(number: i32) -> Self {
        Self::new(style::health(number), &text::health(number))
    }

    /// A reason with its detail.
    pub(crate) fn reason_and_detail(reason: i32, detail: &str) -> Self {
        Self::new(style::reason(reason), &text::reason_and_detail(reason, detail))
    }

    /// `host:port` of a peer, or `pool/host:port`, by its full name.
    pub(crate) fn peer(name: &str, with_pool: bool) -> Self {
        let address = text::peer_address(name);
        match name.strip_prefix("pools/").and_then(|rest| rest.split_once("/peers/")) {
            Some((pool, _)) if with_pool => Self::plain(format!("{pool}/{address}")),
            _ => Self::plain(address),
        }
    }

    /// The origin of a peer that had another one before.
    pub(crate) fn new_origin(peer: &pb::Peer) -> Self {
        Self::plain(format!("now {}", text::origin(peer.origin)))
    }

    /// The same text, less important.
    pub(crate) fn dimmed(mut self) -> Self {
        self.pieces.iter_mut().for_each(|(look, _)| *look = style::DIM);
        self
    }

    /// This and then that, without a blank between.
    pub(crate) fn and(mut self, mut other: Self) -> Self {
        self.pieces.append(&mut other.pieces);
        self
    }

    fn width(&self) -> usize {
        self.pieces.iter().flat_map(|(_, text)| text.chars()).filter_map(char::width).sum()
    }

    /// As much of it as fits; an ellipsis stands for the rest.
    pub(crate) fn cut(mut self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(1);
        for at in 0..self.pieces.len() {
            let Some((_, text)) = self.pieces.get_mut(at) else { break };
            let too_wide = text.char_indices().find(|(_, c)| {
                let fits = left.checked_sub(c.width().unwrap_or(0));
                fits.inspect(|rest| left = *rest).is_none()
            });
            if let Some((end, _)) = too_wide {
                text.truncate(end);
                text.push_str(if columns > 0 { "…" } else { "" });
                self.pieces.truncate(at + 1);
                break;
            }
        }
        self
    }

    /// The text as it is printed.
    pub(crate) fn show(&self, style: Style) -> String {
        self.pieces.iter().map(|(look, text)| style.paint(*look, text)).collect()
    }
}

/// The widths of columns. They grow with the rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(Vec<usize>);

impl Columns {
    /// Columns that are at least so wide.
    pub(crate) fn new(widths: impl Into<Vec<usize>>) -> Self {
        Self(widths.into())
    }

    /// Makes each column wide enough for the row.
    pub(crate) fn grow(&mut self, row: &[Cell]) {
        self.0.resize(self.0.len().max(row.len()), 0);
        for (width, cell) in self.0.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }

    /// The row on one line, without blanks at its end.
    pub(crate) fn line(&self, row: &[Cell], style: Style) -> String {
        let (mut line, mut blanks) = (Cell::default(), 0);
        for (cell, width) in row.iter().zip(self.fitted(style.columns)) {
            let cell = cell.clone().cut(width);
            let rest = width.saturating_sub(cell.width());
            if rest < width {
                line = line.and(Cell::plain(" ".repeat(blanks))).and(cell);
                blanks = 0;
            }
            blanks += rest + GAP;
        }
        line.cut(style.columns.unwrap_or(usize::MAX)).show(style)
    }

    /// Whether the last column has room on such a terminal, for all of it or for most.
    fn last_fits(&self, columns: Option<usize>) -> bool {
        let Some((columns, (last, others))) = columns.zip(self.0.split_last()) else { return true };
        let used: usize = others.iter().map(|width| width + GAP).sum();
        used + (*last).min(REMARK) <= columns
    }

    /// The widths on such a terminal. If it is too narrow, the widest column gives way, down to a third of the
    /// terminal; the last one gets what is left in any case.
    fn fitted(&self, columns: Option<usize>) -> Vec<usize> {
        let mut widths = self.0.clone();
        if let (Some(columns), Some((_, others))) = (columns, widths.split_last_mut()) {
            let used: usize = others.iter().map(|width| width + GAP).sum();
            let excess = (used + LAST_COLUMN).saturating_sub(columns);
            if let Some(widest) = others.iter_mut().max() {
                *widest = widest.saturating_sub(excess).max(columns / 3).min(*widest);
            }
        }
        widths
    }
}

/// Rows under a header, or `none` if there are no rows.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<Cell>>, none: &str, style: Style) -> Vec<String> {
    if rows.is_empty() {
        return vec![none.to_owned()];
    }
    aligned(&iter::once(titles(header)).chain(rows).collect::<Vec<_>>(), style)
}

/// The same, with remarks in the last column. If the terminal is too narrow for them, they go below their rows.
pub(crate) fn table_with_remarks(header: &[&str], rows: Vec<Vec<Cell>>, style: Style) -> Vec<String> {
    let mut columns = Columns::default();
    for row in rows.iter().map(Vec::as_slice).chain([&*titles(header)]) {
        columns.grow(row);
    }
    if columns.last_fits(style.columns) {
        return table(header, rows, "", style);
    }
    let mut lines = Vec::new();
    for mut row in iter::once(titles(header)).chain(rows) {
        let remark = row.pop().unwrap_or_default();
        lines.push(columns.line(&row, style));
        if remark.width() > 0 && lines.len() > 1 {
            let indented = Cell::plain(" ".repeat(GAP)).and(remark);
            lines.push(indented.cut(style.columns.unwrap_or(usize::MAX)).show(style));
        }
    }
    lines
}

fn titles(header: &[&str]) -> Vec<Cell> {
    header.iter().map(|title| Cell::new(style::BOLD, title)).collect()
}

/// All about one thing: titles and values, in full.
pub(crate) fn card(rows: Vec<(&str, Cell)>, style: Style) -> Vec<String> {
    let rows: Vec<_> = rows.into_iter().map(|(title, value)| vec![Cell::plain(title), value]).collect();
    aligned(&rows, Style { columns: None, ..style })
}

fn aligned(rows: &[Vec<Cell>], style: Style) -> Vec<String> {
    let mut columns = Columns::default();
    rows.iter().for_each(|row| columns.grow(row));
    rows.iter().map(|row| columns.line(row, style)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(style: Style) -> Vec<String> {
        let rows = vec![
            vec![Cell::plain("größe:1"), Cell::status(4), Cell::plain("")],
            vec![Cell::plain("日本:1"), Cell::status(2), Cell::plain("x\x1b[2J\ny")],
        ];
        table(&["PEER", "STATUS", "DETAIL"], rows, "no peers", style)
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_the_end() {
        assert_eq!(
            lines(Style::default()),
            ["PEER     STATUS      DETAIL", "größe:1  READY", "日本:1   CONNECTING  x·[2J y"]
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        assert_eq!(
            lines(Style { colour: true, ..Style::default() }),
            [
                "\x1b[1mPEER\x1b[0m     \x1b[1mSTATUS\x1b[0m      \x1b[1mDETAIL\x1b[0m",
                "größe:1  \x1b[32mREADY\x1b[0m",
                "日本:1   \x1b[33mCONNECTING\x1b[0m  x·[2J y"
            ]
        );
    }

    #[test]
    fn lines_are_cut_to_the_width_of_the_terminal() {
        let cut = |columns, colour| lines(Style { colour, columns: Some(columns) });
        assert_eq!(
            cut(27, false),
            ["PEER     STATUS     DETAIL", "größe:1  READY", "日本:1   CONNECTI…  x·[2J y"]
        );
        assert_eq!(cut(6, false), ["PEER …", "größe…", "日本:…"]);
        assert_eq!(cut(4, false), ["PEE…", "grö…", "日…"], "half a character does not fit");
        assert_eq!(cut(11, true)[1], "größe:1  \x1b[32mR…\x1b[0m", "colours take no room");
        for columns in 0..40 {
            for line in cut(columns, false) {
                assert!(Cell::plain(&line).width() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn the_widest_column_gives_way_to_the_last_one() {
        let row = |name: &str| vec![Cell::plain(name), Cell::status(4), Cell::plain("1234567890")];
        let rows = vec![row("[2001:db8:1234:5678:9abc:def0:1234:5678]:8009"), row("a:1")];
        let style = Style { columns: Some(60), ..Style::default() };
        assert_eq!(
            table(&["PEER", "STATUS", "DETAIL"], rows, "", style),
            [
                "PEER                                        STATUS  DETAIL",
                "[2001:db8:1234:5678:9abc:def0:1234:5678]:…  READY   1234567…",
                "a:1                                         READY   1234567…",
            ]
        );
    }

    #[test]
    fn nothing_is_told_in_words_and_a_card_in_full() {
        assert_eq!(table(&["PEER"], vec![], "no peers", Style::default()), ["no peers"]);
        let narrow = Style { columns: Some(5), ..Style::default() };
        assert_eq!(
            card(vec![("name", Cell::plain("pools/default")), ("lag", Cell::plain(7))], narrow),
            ["name  pools/default", "lag   7"]
        );
    }
}
