//! Draws the state. A function of the state and the time alone.

use std::time::SystemTime;

use prost_types::Timestamp;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::Paragraph,
};

use super::{
    details,
    keys::HELP,
    model::{Counts, Detail, Model, Page, Shown, Stream, VIEW},
    paint::Look,
};
use crate::{
    api::pb::{Pool, PoolHealth},
    cli::{
        peers::list::{self, Sort},
        pool,
        style::{self, NORMAL},
        table::{Cell, card_lines, layout},
        text,
    },
    status::node_of,
};

/// The mark of the selected peer, and the indent of the others.
const MARK: &str = "> ";
const INDENT: usize = MARK.len();
/// The first one for a fleet alone.
const POOL_HEADER: [&str; 7] = ["NODE", "POOL", "HEALTH", "READY", "WANTED", "PARKED", "HOW LONG"];
const HINTS: &str = "Enter details  / filter  w n f F order  p pool  r reset  ? help  q quit";
const DETAIL_HINTS: &str = "Esc back  arrows scroll  r reset  ? help  q quit";

/// Draws the state as of `now`.
pub(super) fn draw(model: &Model, look: Look, now: SystemTime, frame: &mut Frame<'_>) -> Shown {
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    lines(frame, top, look, vec![state(model, now)]);
    lines(frame, bottom, look, vec![prompt(model)]);
    match &model.page {
        Page::Peers => {
            let pools = pools(model, usize::from(body.height) / 3, body.width.into(), now);
            let height = u16::try_from(pools.len()).unwrap_or(u16::MAX);
            let [above, below] =
                Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(body);
            lines(frame, above, look, pools);
            peers(model, look, now, frame, below)
        }
        Page::Detail(detail) => {
            scrolled(frame, body, look, self::detail(detail, body.width.into(), now), detail.scroll)
        }
        Page::Help => scrolled(frame, body, look, help(body.width.into()), 0),
    }
}

fn lines(frame: &mut Frame<'_>, area: Rect, look: Look, cells: Vec<Cell>) {
    let lines: Vec<_> = cells.into_iter().map(|cell| look.line(cell, area.width.into())).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// Lines from `scroll` on.
fn scrolled(frame: &mut Frame<'_>, area: Rect, look: Look, cells: Vec<Cell>, scroll: usize) -> Shown {
    let page = usize::from(area.height);
    let max_scroll = cells.len().saturating_sub(page);
    lines(frame, area, look, cells.into_iter().skip(scroll.min(max_scroll)).take(page).collect());
    Shown { page, max_scroll }
}

/// Whether what is shown is the present state.
fn state(model: &Model, now: SystemTime) -> Cell {
    match &model.stream {
        Stream::Connecting => Cell::plain(format!("connecting to {} …", model.server)),
        Stream::Live => Cell::new(style::health(PoolHealth::Healthy.into()), "● live")
            .and(Cell::plain(format!(", {}", model.server))),
        Stream::Lost { since, cause } => {
            let since = Timestamp::from(*since);
            let clock: String = text::clock(Some(&since)).chars().take("00:00:00".len()).collect();
            let what = format!("✕ not live since {clock} UTC, {}", text::age(Some(&since), now));
            Cell::new(style::ALARM, &what).and(Cell::plain(format!(": {cause}")))
        }
    }
}

/// The last line: a question, what is typed, the last result, or the keys.
fn prompt(model: &Model) -> Cell {
    match (&model.question, &model.message, &model.page) {
        (Some(peer), ..) => {
            let peer = text::peer_address(&peer.name);
            Cell::new(style::BOLD, &format!("Reset {peer}: close its connection and start over? y/n"))
        }
        _ if model.is_typing => Cell::new(style::BOLD, &format!("/{}_", model.filter)),
        (None, Some(message), _) => Cell::new(style::NOTICE, message),
        (None, None, Page::Peers) => Cell::new(style::DIM, HINTS),
        (None, None, Page::Detail(_)) => Cell::new(style::DIM, DETAIL_HINTS),
        (None, None, Page::Help) => Cell::new(style::DIM, "Esc back  q quit"),
    }
}

/// The pools, in no more than so many lines.
fn pools(model: &Model, room: usize, columns: usize, now: SystemTime) -> Vec<Cell> {
    let pools = model.pools();
    let is_fleet = pools.iter().any(|(pool, _)| node_of(text::pool_name(&pool.name)).is_some());
    let skipped = usize::from(!is_fleet);
    let rows = pools.iter().map(|(pool, counts)| {
        let mut row = pool_row(pool, *counts, now).split_off(skipped);
        let how_long = row.pop().unwrap_or_default();
        let note = if model.is_incomplete(pool) { ", node incomplete" } else { "" };
        row.push(how_long.and(Cell::new(style::ALARM, note)));
        row
    });
    let (header, rows) = (POOL_HEADER.get(skipped..).unwrap_or_default(), rows.collect::<Vec<_>>());
    let (header, mut rows) = layout(header, &rows, Some(columns.saturating_sub(INDENT)));
    let places = room.saturating_sub(2).max(1); // header and blank
    let hidden = rows.len().saturating_sub(places);
    if hidden > 0 {
        rows.truncate(places.saturating_sub(1).max(1));
        rows.push(vec![Cell::new(style::DIM, &format!("and {} more pools", pools.len() - rows.len()))]);
    }
    let shown = pools.iter().map(|(pool, _)| model.pool.as_deref() == Some(text::pool_name(&pool.name)));
    let marked = rows.into_iter().zip(shown).flat_map(|(row, is_shown)| marked(row, is_shown));
    marked_header(header).into_iter().chain(marked).chain([Cell::default()]).collect()
}

fn marked_header(header: Cell) -> Vec<Cell> {
    marked(vec![header], false)
}

/// The lines of a row, the first with the mark if it is selected.
fn marked(row: Vec<Cell>, is_selected: bool) -> Vec<Cell> {
    let blank = " ".repeat(INDENT);
    let mark = |line| if is_selected && line == 0 { MARK } else { &blank };
    row.into_iter().enumerate().map(|(line, cell)| Cell::new(NORMAL, mark(line)).and(cell)).collect()
}

fn pool_row(pool: &Pool, counts: Counts, now: SystemTime) -> Vec<Cell> {
    let health = pool::health(pool);
    let shape = match PoolHealth::try_from(health) {
        Ok(PoolHealth::Healthy) => "●",
        Ok(PoolHealth::Degraded) => "▲",
        Ok(PoolHealth::Down) => "✕",
        Ok(PoolHealth::Unspecified) | Err(_) => "?",
    };
    let look = style::health(health);
    let name = text::pool_name(&pool.name);
    let (node, name) = node_of(name).unwrap_or(("", name));
    vec![
        Cell::plain(node),
        Cell::plain(name),
        Cell::new(look, &format!("{shape} {}", text::health(health))),
        Cell::plain(counts.ready),
        Cell::plain(counts.wanted),
        Cell::plain(counts.parked),
        pool::how_long(pool, now),
    ]
}

/// The list of peers, around the selected one.
fn peers(model: &Model, look: Look, now: SystemTime, frame: &mut Frame<'_>, area: Rect) -> Shown {
    let columns = usize::from(area.width);
    let places = match model.pool {
        None => list::places(model.known.peers()),
        Some(_) => list::places(&model.rows),
    };
    let (header, rows) = VIEW.layout(&model.rows, places, Some(columns.saturating_sub(INDENT)), now);
    let mut shown: Vec<Line<'static>> = vec![look.line(caption(model), columns)];
    let below_caption = match rows.is_empty() {
        true => no_rows(model),
        false => marked_header(header),
    };
    shown.extend(below_caption.into_iter().map(|cell| look.line(cell, columns)));
    let room = usize::from(area.height).saturating_sub(shown.len());
    let heights: Vec<_> = rows.iter().map(Vec::len).collect();
    let Window { first, end, has_marks } = Window::of(&heights, model.selected, room);
    let hidden = |count: usize, place: &str| {
        let mark = Cell::new(style::DIM, &format!("  {count} more {place}"));
        (has_marks && count > 0).then(|| look.line(mark, columns))
    };
    let below = hidden(rows.len() - end, "below");
    shown.extend(hidden(first, "above"));
    for (index, row) in rows.into_iter().enumerate().take(end).skip(first) {
        let is_selected = index == model.selected;
        let lines = marked(row, is_selected).into_iter().map(|cell| look.line(cell, columns));
        let style = if is_selected { look.selection() } else { Default::default() };
        shown.extend(lines.map(|line| line.patch_style(style)));
    }
    shown.extend(below);
    frame.render_widget(Paragraph::new(shown), area);
    Shown { page: (end - first).max(1), max_scroll: 0 }
}

/// Why there is no row.
fn no_rows(model: &Model) -> Vec<Cell> {
    match model.filter.is_empty() || model.known.peers().next().is_none() {
        true => Vec::new(),
        false => vec![Cell::plain("  no peer matches; Esc clears the filter")],
    }
}

/// The first row to show, so that the selected one is in the middle where there are more than fit.
fn first_shown(heights: &[usize], selected: usize, room: usize) -> usize {
    let lines = |rows: &[usize]| rows.iter().sum::<usize>();
    let above = lines(heights.get(..selected).unwrap_or(heights));
    let top = above.saturating_sub(room / 2).min(lines(heights).saturating_sub(room));
    let mut line = 0;
    let rows = heights.iter().take_while(|height| {
        let is_above = line < top;
        line += **height;
        is_above
    });
    rows.count()
}

/// The rows that fit.
struct Window {
    first: usize,
    end: usize,
    /// Whether there are lines with how many are above and below.
    has_marks: bool,
}

impl Window {
    fn of(heights: &[usize], selected: usize, room: usize) -> Self {
        let lines = |from: usize| heights.iter().skip(from).sum::<usize>();
        // In less room the rows need all of it.
        let has_marks = lines(0) > room && room > 5;
        if !has_marks {
            let first = first_shown(heights, selected, room);
            return Self { first, end: end(heights, first, room), has_marks };
        }
        let mut first = first_shown(heights, selected, room - 2);
        // At an end there is one mark alone.
        while first > 1 && lines(first - 1) < room {
            first -= 1;
        }
        let room = if first == 0 || lines(first) < room { room - 1 } else { room - 2 };
        Self { first, end: end(heights, first, room), has_marks }
    }
}

/// The end of the rows that fit from the first one on, which is at least one.
fn end(heights: &[usize], first: usize, room: usize) -> usize {
    let mut used = 0;
    let fitting = heights.iter().skip(first).take_while(|height| {
        used += **height;
        used <= room
    });
    (first + fitting.count().max(1)).min(heights.len())
}

/// How many are READY, and what is shown of them.
fn caption(model: &Model) -> Cell {
    let order = match model.sort {
        Sort::Worst => "the worst first",
        Sort::Name => "by name",
        Sort::Flaps => "by flaps",
        Sort::Failures => "by failures",
    };
    let mut text = format!(", {order}");
    if let Some(pool) = &model.pool {
        text.push_str(&format!(", only pool {pool}"));
    }
    if !model.filter.is_empty() {
        text.push_str(&format!(", only with \"{}\"", model.filter));
    }
    let all = model.known.peers().count();
    if model.rows.len() < all {
        text.push_str(&format!(": {} of {all}", model.rows.len()));
    }
    Cell::new(style::BOLD, &list::total(model.known.peers())).and(Cell::plain(text))
}

fn detail(detail: &Detail, columns: usize, now: SystemTime) -> Vec<Cell> {
    let mut shown = card_lines(details::rows(&detail.peer, now), Some(columns));
    if detail.is_gone {
        shown.insert(0, Cell::new(style::BOLD, "The peer is no longer in the pool. This is as it was last:"));
    }
    shown.push(Cell::default());
    match &detail.history {
        None => shown.push(Cell::new(style::DIM, "asking for the history …")),
        Some(Ok(history)) => shown.extend(history.lines(Some(columns), now)),
        Some(Err(failure)) => shown.push(Cell::new(style::ALARM, &format!("no history: {failure}"))),
    }
    shown
}

fn help(columns: usize) -> Vec<Cell> {
    let titles = [Cell::new(style::BOLD, "Keys"), Cell::default()];
    let keys = HELP.iter().map(|(key, effect)| (*key, Cell::plain(effect))).collect();
    let more = "The order and the columns are those of `peers list`: FLAPS counts how often READY was lost, FAILURES how \
                often an attempt or a connection failed. ~flapping is a peer that lost READY three times within ten \
                minutes. A parked peer is not wanted.";
    let more = card_lines(vec![("", Cell::plain(more))], Some(columns));
    titles.into_iter().chain(card_lines(keys, Some(columns))).chain([Cell::default()]).chain(more).collect()
}
