//! Holds the header, which is written by hand, and the list of symbols to the functions of the crate.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The declarations and constants in a header: without comments, `extern "C"` and line breaks.
fn items(header: &str) -> BTreeSet<String> {
    let mut text = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        text.push_str(before);
        rest = comment.split_once("*/").unwrap().1;
    }
    text.push_str(rest);
    let is_constant = |line: &&str| line.starts_with("#define OF_") && !line.contains('(');
    let constants: Vec<_> = text.lines().filter(is_constant).map(ToOwned::to_owned).collect();
    let code: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| !line.contains("extern \"C\""))
        .collect();
    let words = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let normal = |item: &str| item.trim().replace("( ", "(").replace("(void)", "()").replace(" )", ")");
    let declarations =
        words.split(';').map(normal).filter(|item| item.contains('(') || item.contains("typedef"));
    declarations.chain(constants).collect()
}

/// The header as cbindgen writes it.
fn generated() -> String {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        no_includes: true,
        documentation: false,
        ..cbindgen::Config::default()
    };
    let bindings =
        cbindgen::Builder::new().with_crate(env!("CARGO_MANIFEST_DIR")).with_config(config).generate();
    let mut text = Vec::new();
    bindings.unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_declares_what_the_library_has() {
    assert_eq!(items(&read("include/opflex-peerstatus.h")), items(&generated()));
}

#[test]
fn every_function_is_a_symbol_with_a_version() {
    let functions: BTreeSet<_> = items(&generated())
        .into_iter()
        .filter(|item| !item.starts_with("typedef") && !item.starts_with('#'))
        .map(|item| item.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap().to_owned())
        .collect();
    let map = read("libopflex-peerstatus.map");
    let listed = map.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(';'));
    let listed: BTreeSet<_> = listed.filter(|line| *line != "*").map(ToOwned::to_owned).collect();
    assert_eq!(functions, listed);
}
