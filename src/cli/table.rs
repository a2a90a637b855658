//! Text in aligned columns that fit the terminal, measured in columns of the terminal and not in characters. Every
//! cell is made harmless for a terminal, so callers may pass text of any origin. Where a row does not fit, its last cell
//! goes below it, indented.

use std::{iter, mem};

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
/// A last cell below its row takes no more lines than this. Advice of TLS is up to that long on 80 columns.
const LAST_CELL_LINES: usize = 4;
/// The values of a card are wrapped to no less than this.
const NARROWEST_VALUE: usize = 20;

/// Text on one line, in pieces that look different.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pieces: Vec<(Ansi, String)>,
    /// Whether it is wrapped and not cut where it does not fit, so that it can be copied.
    is_whole: bool,
}

impl Cell {
    /// Text with a look.
    pub(crate) fn new(look: Ansi, text: &str) -> Self {
        Self { pieces: vec![(look, text::plain(text))], is_whole: false }
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
            Some((pool, _)) if with_pool => Self::address(&format!("{pool}/{address}")),
            _ => Self::address(address),
        }
    }

    /// The short name of a peer, which is copied from the table.
    pub(crate) fn address(text: &str) -> Self {
        Self { is_whole: true, ..Self::plain(text) }
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

    /// All of it in lines of so many columns, broken at blanks where there are any.
    fn wrapped(self, columns: usize) -> Vec<Self> {
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        for (look, character) in
            self.pieces.iter().flat_map(|(look, text)| text.chars().map(move |character| (*look, character)))
        {
            line.push((look, character));
            if line.len() > 1 && width_of(&line) > columns {
                let blank = line.iter().rposition(|(_, character)| *character == ' ').filter(|at| *at > 0);
                let rest = line.split_off(blank.map_or(line.len() - 1, |at| at + 1));
                lines.push(Self::of(&line));
                line = rest;
            }
        }
        lines.push(Self::of(&line));
        lines
    }

    /// Without blanks at the end.
    fn of(characters: &[(Ansi, char)]) -> Self {
        let end = characters.iter().rposition(|(_, character)| *character != ' ').map_or(0, |last| last + 1);
        let mut cell = Self::default();
        for (look, character) in characters.iter().take(end) {
            match cell.pieces.last_mut() {
                Some((last, text)) if last == look => text.push(*character),
                _ => cell.pieces.push((*look, character.to_string())),
            }
        }
        cell
    }

    /// It, and blanks up to a column.
    fn padded(self, column: usize) -> Self {
        let blanks = column.saturating_sub(self.width());
        if blanks > 0 { self.and(Self::plain(" ".repeat(blanks))) } else { self }
    }

    /// The pieces, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (Ansi, &str)> {
        self.pieces.iter().map(|(look, text)| (*look, text.as_str()))
    }

    /// The text as it is printed.
    pub(crate) fn show(&self, style: Style) -> String {
        self.pieces.iter().map(|(look, text)| style.paint(*look, text)).collect()
    }
}

fn width_of(characters: &[(Ansi, char)]) -> usize {
    characters.iter().filter_map(|(_, character)| character.width()).sum()
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

    /// The row on one line, without blanks at its end. If the terminal is too narrow for all of its last cell, that one
    /// goes below, and so does what follows a name that does not fit into its column.
    pub(crate) fn lines(&self, row: &[Cell], style: Style) -> Vec<String> {
        self.cells(row, style.columns).iter().map(|line| line.show(style)).collect()
    }

    /// The same as cells, on a terminal of this width.
    fn cells(&self, row: &[Cell], terminal: Option<usize>) -> Vec<Cell> {
        let columns = terminal.unwrap_or(usize::MAX);
        let (mut lines, mut line, mut at) = (Vec::new(), Cell::default(), 0);
        for (index, (cell, width)) in row.iter().zip(self.fitted(terminal)).enumerate() {
            let is_last = index + 1 == row.len();
            if cell.width() == 0 {
                // nothing to show
            } else if is_last && at + cell.width() > columns {
                lines.push(mem::take(&mut line));
                lines.extend(below(cell.clone(), columns));
            } else if cell.is_whole && cell.width() > width {
                let name = line.clone().padded(at).and(cell.clone());
                match name.width() <= columns {
                    true => lines.push(name),
                    false => lines.extend(iter::once(line).chain(cell.clone().wrapped(columns))),
                }
                line = Cell::default();
            } else {
                line = line.padded(at).and(if is_last { cell.clone() } else { cell.clone().cut(width) });
            }
            at += width + GAP;
        }
        lines.push(line);
        let shown = lines.into_iter().filter(|line| line.width() > 0);
        shown.map(|line| line.cut(columns)).collect()
    }

    /// By how much all columns but the last are too wide for a terminal.
    fn excess(&self, terminal: Option<usize>) -> usize {
        let others =
            self.0.split_last().map_or(0, |(_, others)| others.iter().map(|width| width + GAP).sum());
        terminal.map_or(0, |columns| usize::saturating_sub(others, columns.saturating_add(GAP)))
    }

    /// The widths on such a terminal. If it is too narrow for all but the last, the widest of them gives way, down to a
    /// quarter of the terminal.
    fn fitted(&self, columns: Option<usize>) -> Vec<usize> {
        let (mut widths, excess) = (self.0.clone(), self.excess(columns));
        if let (Some(columns), Some((_, others))) = (columns, widths.split_last_mut())
            && let Some(widest) = others.iter_mut().max()
        {
            *widest = widest.saturating_sub(excess).max(columns / 4).min(*widest);
        }
        widths
    }
}

/// A last cell that has no room in its row: indented lines, of which the last is cut if there are too many.
fn below(cell: Cell, columns: usize) -> Vec<Cell> {
    let room = columns.saturating_sub(GAP);
    let mut lines = cell.wrapped(room);
    let rest = lines.split_off(lines.len().min(LAST_CELL_LINES - 1));
    lines.extend(rest.into_iter().reduce(|line, next| line.and(Cell::plain(" ")).and(next)));
    lines.into_iter().map(|line| Cell::default().padded(GAP).and(line.cut(room))).collect()
}

/// Whether all cells but the last of each row have room on a terminal of this width.
pub(crate) fn fits(header: &[&str], rows: &[Vec<Cell>], terminal: Option<usize>) -> bool {
    widths(&titles(header), rows).excess(terminal) == 0
}

fn widths(titles: &[Cell], rows: &[Vec<Cell>]) -> Columns {
    let mut columns = Columns::default();
    iter::once(titles).chain(rows.iter().map(Vec::as_slice)).for_each(|row| columns.grow(row));
    columns
}

/// Rows under a header, or `none` if there are no rows.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<Cell>>, none: &str, style: Style) -> Vec<String> {
    if rows.is_empty() {
        return vec![none.to_owned()];
    }
    let (header, rows) = layout(header, &rows, style.columns);
    iter::once(&header).chain(rows.iter().flatten()).map(|line| line.show(style)).collect()
}

/// The line of the header and the lines of each row, on a terminal of this width.
pub(crate) fn layout(header: &[&str], rows: &[Vec<Cell>], terminal: Option<usize>) -> (Cell, Vec<Vec<Cell>>) {
    let titles = titles(header);
    let columns = widths(&titles, rows);
    // A title that does not fit is left out.
    let header = columns.cells(&titles, terminal).into_iter().next().unwrap_or_default();
    (header, rows.iter().map(|row| columns.cells(row, terminal)).collect())
}

fn titles(header: &[&str]) -> Vec<Cell> {
    header.iter().map(|title| Cell::new(style::BOLD, title)).collect()
}

/// All about one thing: titles and values, in full. Values that do not fit the terminal are wrapped.
pub(crate) fn card(rows: Vec<(&str, Cell)>, style: Style) -> Vec<String> {
    card_lines(rows, style.columns).iter().map(|line| line.show(style)).collect()
}

/// The same as cells, on a terminal of this width.
pub(crate) fn card_lines(rows: Vec<(&str, Cell)>, terminal: Option<usize>) -> Vec<Cell> {
    let indent = rows.iter().map(|(title, _)| Cell::plain(title).width()).max().unwrap_or(0) + GAP;
    let room = terminal.map_or(usize::MAX, |columns| columns.saturating_sub(indent).max(NARROWEST_VALUE));
    let lines = rows.into_iter().flat_map(|(title, value)| {
        let mut title = Cell::plain(title);
        value.wrapped(room).into_iter().map(move |part| match part.width() {
            0 => mem::take(&mut title),
            _ => mem::take(&mut title).padded(indent).and(part),
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests;
