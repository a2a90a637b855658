//! Holds the sources to the map in `src/lib.rs`: imports point one way, and the crates of the edge stay there.
//! It checks tokens, not types, so it misses glob imports; comments and literals do not count.

use std::{fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};

/// The rungs of `src/lib.rs`, lowest first. A module may name those on lower rungs, not its neighbours.
const RUNGS: &[&[&str]] = &[
    &["opflex"],
    &["peer"],
    &["status"],
    &["metrics"],
    &["reload"],
    &["auth", "tls"],
    &["transport"],
    &["observe"],
    &["pool"],
    &["error_info", "deadline"],
    &["server"],
    &["api", "sim"],
    &["fleet"],
    &["admin"],
    &["config"],
    &["telemetry"],
    &["app"],
    &["cli"],
];

/// The modules that may name tonic and prost, and those that must not name tokio; `tonic_types` counts as tonic.
const EDGE: &[&str] = &["error_info", "server", "api", "fleet", "cli"];
const PURE: &[&str] = &["opflex", "peer", "auth"];
/// What `status` must not name, beside tonic, prost and the modules above it, such as `metrics`.
const WIRE: &[&str] = &["bytes", "http", "h2", "hyper", "prometheus_client"];

/// Words and marks with their lines.
type Words = [(usize, String)];

#[test]
fn imports_point_one_way_and_the_edge_stays_at_the_edge() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut directories, mut found) = (vec![src.clone()], Vec::new());
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(&src).unwrap().to_str().unwrap();
                found.extend(violations(file, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// What is wrong with a file, one line for each: `src/peer/fsm.rs:7: …`.
fn violations(file: &str, text: &str) -> Vec<String> {
    if file == "lib.rs" || file == "main.rs" {
        return Vec::new();
    }
    let module = file.split('/').next().unwrap().trim_end_matches(".rs");
    let Some(rung) = rung_of(module) else {
        return vec![format!(
            "src/{file}:1: {module} is on no rung: add it to tests/it/layering.rs and src/lib.rs"
        )];
    };
    let depth = file.matches('/').count() + usize::from(!file.ends_with("/mod.rs"));
    let mut words = Vec::new();
    flatten(text.parse().unwrap_or_else(|error| panic!("src/{file}: {error}")), &mut words);

    let mut found = Vec::new();
    for (index, (line, word)) in words.iter().enumerate() {
        let is = |family: &str| {
            word.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        if (is("tonic") || is("prost")) && !EDGE.contains(&module) {
            found.push(format!("src/{file}:{line}: {word} belongs to {} alone", EDGE.join(" and ")));
        }
        if is("tokio") && PURE.contains(&module) {
            found.push(format!("src/{file}:{line}: {module} does without {word}"));
        }
        if module == "status" && WIRE.iter().any(|family| is(family)) {
            found.push(format!("src/{file}:{line}: {module} does without {word}"));
        }
        for (line, other) in named_from_root(&words[index..], depth) {
            if rung_of(other).is_some_and(|its| other != module && its >= rung) {
                found
                    .push(format!("src/{file}:{line}: {module} may not name {other}, which is not below it"));
            }
        }
    }
    found
}

fn rung_of(module: &str) -> Option<usize> {
    RUNGS.iter().position(|rung| rung.contains(&module))
}

/// The modules of the crate's root that a path names, if one begins here: one for `crate::a::b`, several for
/// `crate::{a::b, c}`. As many `super` as the file is deep are as good as `crate`.
fn named_from_root(words: &Words, depth: usize) -> Vec<(usize, &str)> {
    let is_path = |words: &Words, root: &str| matches!(words, [(_, r), (_, a), (_, b), ..] if r == root && a == ":" && b == ":");
    let start = if is_path(words, "crate") {
        3
    } else if (0..depth).all(|n| words.get(3 * n..).is_some_and(|rest| is_path(rest, "super"))) {
        3 * depth
    } else {
        return Vec::new();
    };
    let (mut named, mut braces, mut begins) = (Vec::new(), 0, true);
    for (line, word) in &words[start..] {
        match word.as_str() {
            "{" => braces += 1,
            "}" => braces -= 1,
            "," => begins = braces == 1,
            name if begins => {
                named.push((*line, name));
                begins = false;
            }
            _ => {}
        }
        if braces == 0 {
            break;
        }
    }
    named
}

fn flatten(stream: TokenStream, words: &mut Vec<(usize, String)>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                words.push((line, "{".to_owned()));
                flatten(group.stream(), words);
                words.push((group.span_close().start().line, "}".to_owned()));
            }
            TokenTree::Ident(ident) => words.push((line, ident.to_string())),
            TokenTree::Punct(mark) => words.push((line, mark.to_string())),
            TokenTree::Literal(_) => {}
        }
    }
}

#[test]
fn a_wrong_import_is_found_with_file_line_and_rule() {
    let text = "//! crate::cli in a comment\nuse crate::{\n    opflex::Frame,\n    pool::{self, Pool},\n};\nuse tokio::net;\n";
    assert_eq!(
        violations("peer/fsm.rs", text),
        [
            "src/peer/fsm.rs:4: peer may not name pool, which is not below it",
            "src/peer/fsm.rs:6: peer does without tokio"
        ]
    );
}

#[test]
fn every_rule_has_teeth() {
    for (file, text) in [
        ("opflex/frame.rs", "use crate::peer::address;"),
        ("sim/mod.rs", "fn f() { crate::api::serve() }"),
        ("api.rs", "use crate::sim;"),
        ("status/hub.rs", "use prost_types::Timestamp;"),
        ("status/subscription.rs", "use crate::metrics::Detach;"),
        ("status/listener.rs", "struct Spec { user_data: bytes::Bytes }"),
        ("status/registry.rs", "use http::HeaderMap;"),
        ("app.rs", "fn f() -> Result<(), tonic::Status> {}"),
        ("peer/fsm/tests.rs", "#[tokio::test] async fn f() {}"),
        ("opflex/mod.rs", "use tokio_util::codec;"),
        ("peer/mod.rs", "use super::status::Hub;"),
        ("peer/fsm.rs", "use super::super::pool::Pool;"),
        ("config.rs", "const S: &str = \"/*\"; use super::cli::Args;"),
        ("surprise.rs", ""),
    ] {
        assert_eq!(violations(file, text).len(), 1, "{file}: {text}");
    }
}

#[test]
fn what_is_allowed_stays_allowed() {
    for (file, text) in [
        (
            "peer/fsm.rs",
            "use super::status::Reason; use crate::{opflex::{frame, message::Id}, peer::backoff};",
        ),
        (
            "pool/session.rs",
            "pub(crate) fn f() { tokio::time::pause() } use crate::{peer::{fsm, status}, status, transport};",
        ),
        ("cli/watch.rs", "use crate::{app, api::pb, sim}; use tonic::transport::Channel;"),
        ("opflex/frame.rs", "const S: &str = \"tokio, crate::cli\"; /* prost */ fn f<'a>(x: &'a str) {}"),
        ("main.rs", "use tonic as _;"),
    ] {
        assert_eq!(violations(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}
