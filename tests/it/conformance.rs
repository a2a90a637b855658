//! Holds `docs/opflex-conformance.md` to its promises: no row is open, and each names a test that there is. The same for the
//! ways in that `docs/security.md` tells of.

use std::{collections::BTreeSet, fs, path::Path};

const HEAD: [&str; 4] = ["reference", "ours", "verdict", "test"];

/// The recordings of what aborts the reference.
const ABORTS: [&str; 11] = ["k14", "k15", "k18", "k19", "k42", "k44", "k66", "k69", "k70", "k71", "k79"];

/// The rows that have to be there: those of the state table, the oddities, and what aborts the reference.
fn required() -> BTreeSet<String> {
    let states = (1..=28).map(|row| format!("7.{row}"));
    let oddities = (1..=24).map(|row| format!("11.{row}"));
    states.chain(oddities).chain(ABORTS.map(str::to_owned)).collect()
}

#[test]
fn every_row_of_the_page_has_a_verdict_and_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/opflex-conformance.md")).unwrap();
    let source = |file: &str| fs::read_to_string(root.join(file)).ok();
    let found = violations(&page, &required(), source);
    assert!(found.is_empty(), "\ndocs/opflex-conformance.md\n{}", found.join("\n"));
}

#[test]
fn every_way_in_and_every_share_that_docs_security_md_tells_of_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let source = |file: &str| fs::read_to_string(root.join(file)).ok();
    let rows = ["| way |", "| resource |"].into_iter().flat_map(|head| {
        let rows = page.lines().skip_while(move |line| !line.starts_with(head)).skip(2);
        rows.take_while(|line| line.starts_with('|'))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 40, "{}", rows.len());
    let tests =
        rows.iter().filter_map(|row| row.trim_end_matches(" |").rsplit_once("| ")).map(|(_, tests)| tests);
    let found: Vec<_> =
        tests.flat_map(|tests| tests.split(", ")).filter_map(|name| missing(name, source)).collect();
    assert!(found.is_empty(), "\ndocs/security.md\n{}", found.join("\n"));
}

/// What is wrong with a page, a line for each. `source` gives the text of a file, if there is one.
fn violations(
    page: &str,
    required: &BTreeSet<String>,
    source: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let (mut found, mut keys, mut in_table) = (Vec::new(), BTreeSet::new(), false);
    for (line, text) in (1..).zip(page.lines()) {
        let Some(row) = text.strip_prefix('|') else {
            in_table = false;
            continue;
        };
        let cells: Vec<_> = row.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
        let head = !in_table;
        in_table = true;
        let Ok([reference, _, verdict, test]) = <[&str; 4]>::try_from(cells.clone()) else {
            found.push(format!("{line}: {} cells", cells.len()));
            continue;
        };
        if head {
            found.extend((cells != HEAD).then(|| format!("{line}: {cells:?} is no head of a table")));
            continue;
        }
        if cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|mark| mark == '-')) {
            continue;
        }
        found.extend(cells.iter().any(|cell| cell.is_empty()).then(|| format!("{line}: an empty cell")));
        let key = reference.split(' ').next().unwrap_or_default();
        found.extend((!keys.insert(key.to_owned())).then(|| format!("{line}: {key} is there twice")));
        let (word, reason) = verdict.split_once(": ").unwrap_or((verdict, ""));
        let stands = match word {
            "same" => true,
            "better" | "different" => !reason.is_empty(),
            _ => false,
        };
        found.extend((!stands).then(|| format!("{line}: {verdict:?} is no verdict with a reason")));
        let named = test.split(", ").filter_map(|name| missing(name, &source));
        found.extend(named.map(|what| format!("{line}: {what}")));
    }
    found.extend(required.difference(&keys).map(|key| format!("no row {key}")));
    found
}

/// What is wrong with the name of a test, if something is.
fn missing(name: &str, source: impl Fn(&str) -> Option<String>) -> Option<String> {
    let path = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
    let Some((file, function)) = path.and_then(|path| path.split_once("::")) else {
        return Some(format!("{name:?} is not `path/to/file.rs::test_name`"));
    };
    let Some(text) = source(file) else {
        return Some(format!("there is no {file}"));
    };
    let mut before = "";
    for line in text.lines().map(str::trim) {
        if line.contains(&format!("fn {function}(")) {
            let attribute = before.starts_with("#[test]") || before.starts_with("#[tokio::test");
            return (!attribute).then(|| format!("{function} in {file} is no test"));
        }
        before = line;
    }
    Some(format!("there is no {function} in {file}"))
}

/// What is found in a page with these rows, of which 7.1 has to be there.
fn found_in(rows: &str) -> Vec<String> {
    let page = format!("| reference | ours | verdict | test |\n|---|---|---|---|\n{rows}\n");
    let text = "#[test]\nfn works() {\n#[tokio::test(start_paused = true)]\nasync fn waits() {\nfn helps() {";
    let source = |file: &str| (file == "a.rs").then(|| text.to_owned());
    violations(&page, &BTreeSet::from(["7.1".to_owned()]), source)
}

#[test]
fn a_good_page_is_a_good_page() {
    for row in [
        "| 7.1 x | y | same | `a.rs::works` |",
        "| 7.1 x | y | better: it is faster | `a.rs::works`, `a.rs::waits` |",
        "| 7.1 x | y | different: that is wanted | `a.rs::waits` |\n| 7.2 | y | same | `a.rs::works` |",
    ] {
        assert_eq!(found_in(row), [""; 0], "{row}");
    }
}

#[test]
fn whatever_is_wrong_with_a_page_is_found_with_its_line() {
    for (row, wrong) in [
        ("", "no row 7.1"),
        ("| 7.1 x | y | same |", "3: 3 cells"),
        ("| 7.1 x | | same | `a.rs::works` |", "3: an empty cell"),
        ("| 7.1 x | y | open | `a.rs::works` |", "3: \"open\" is no verdict with a reason"),
        ("| 7.1 x | y | better | `a.rs::works` |", "3: \"better\" is no verdict with a reason"),
        ("| 7.1 x | y | different: | `a.rs::works` |", "3: \"different:\" is no verdict with a reason"),
        ("| 7.1 x | y | same | works |", "3: \"works\" is not `path/to/file.rs::test_name`"),
        ("| 7.1 x | y | same | `b.rs::works` |", "3: there is no b.rs"),
        ("| 7.1 x | y | same | `a.rs::work` |", "3: there is no work in a.rs"),
        ("| 7.1 x | y | same | `a.rs::works`, `a.rs::helps` |", "3: helps in a.rs is no test"),
        (
            "| 7.1 x | y | same | `a.rs::works` |\n| 7.1 z | y | same | `a.rs::works` |",
            "4: 7.1 is there twice",
        ),
        ("| 7.1 x | y | same | `a.rs::works` |\n\n| state | event | what |\n|---|---|---|", "5: 3 cells"),
        (
            "| 7.1 x | y | same | `a.rs::works` |\n\n| a | b | c | d |",
            "5: [\"a\", \"b\", \"c\", \"d\"] is no head of a table",
        ),
    ] {
        let found = found_in(row);
        assert!(found.contains(&wrong.to_owned()), "{row}: {found:?}");
    }
}
