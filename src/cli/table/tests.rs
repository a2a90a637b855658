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
        ["PEER     STATUS      DETAIL", "größe:1  READY", "日本:1   CONNECTING", "  x·[2J y"]
    );
    assert_eq!(cut(6, false), ["PEER …", "größe…", "日本:…", "  x·[2", "  J y"]);
    assert_eq!(
        cut(4, false),
        ["PEE…", "grö…", "日…", "  x·", "  [2", "  J", "  y"],
        "half a character does not fit"
    );
    assert_eq!(cut(11, true)[1], "größe:1  \x1b[32mR…\x1b[0m", "colours take no room");
    for columns in 0..40 {
        for line in cut(columns, false) {
            assert!(Cell::plain(&line).width() <= columns, "{columns}: {line}");
        }
    }
}

#[test]
fn where_a_row_does_not_fit_its_last_cell_goes_below() {
    let row = |name: &str, detail: &str| vec![Cell::plain(name), Cell::status(4), Cell::plain(detail)];
    let rows = vec![row("a:1", "1234567890"), row("b:1", "1234567890 and more"), row("c:1", "")];
    let style = Style { columns: Some(25), ..Style::default() };
    assert_eq!(
        table(&["PEER", "STATUS", "DETAIL"], rows, "", style),
        [
            "PEER  STATUS  DETAIL",
            "a:1   READY   1234567890",
            "b:1   READY",
            "  1234567890 and more",
            "c:1   READY"
        ]
    );
}

#[test]
fn the_name_of_a_peer_is_wrapped_and_not_cut() {
    let row = |name: &str| vec![Cell::peer(name, false), Cell::status(4), Cell::plain("why")];
    let long = "pools/default/peers/leaf-101.a-very-long-name.example:8009";
    let rows = vec![row("pools/default/peers/a:1"), row(long)];
    let lines = |columns| {
        let style = Style { columns, ..Style::default() };
        table(&["PEER", "STATUS", "WHY"], rows.clone(), "", style)
    };
    assert!(lines(None)[2].starts_with("leaf-101.a-very-long-name.example:8009  READY  "), "off a terminal");
    assert_eq!(
        lines(Some(40))[1..],
        [
            "a:1                               READY",
            "  why",
            "leaf-101.a-very-long-name.example:8009",
            "                                  READY",
            "  why",
        ]
    );
    assert_eq!(lines(Some(20))[2..5], ["  why", "leaf-101.a-very-long", "-name.example:8009"]);
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

#[test]
fn the_values_of_a_card_are_wrapped_to_the_terminal() {
    let narrow = Style { columns: Some(30), ..Style::default() };
    let detail =
        Cell::new(style::ALARM, "the peer answered with an error of some length").and(Cell::plain("!"));
    assert_eq!(
        card(vec![("detail", detail), ("", Cell::default()), ("x", Cell::plain("y".repeat(23)))], narrow),
        [
            "detail  the peer answered with",
            "        an error of some",
            "        length!",
            "",
            "x       yyyyyyyyyyyyyyyyyyyyyy",
            "        y",
        ]
    );
}
