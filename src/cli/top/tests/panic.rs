use std::{
    env,
    process::{Command, Stdio},
};

use super::super::screen::Screen;

/// Not a test by itself: it is run on a terminal by the one below.
#[test]
#[ignore = "it panics"]
fn panics() {
    let _screen = Screen::open().unwrap();
    panic!("for the test");
}

#[test]
fn a_panic_leaves_the_terminal_as_it_was_before_its_message() {
    let test = "cli::top::tests::panic::panics";
    let line = format!(
        "before=$(stty -g); {} --exact {test} --ignored --nocapture; [ \"$before\" = \"$(stty -g)\" ] && echo same",
        env::current_exe().unwrap().display()
    );
    // It runs the line on a terminal of its own, and copies what is written there.
    let ran = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    let Ok(ran) = ran else {
        eprintln!("SKIPPED: needs script, of util-linux: {ran:?}");
        return;
    };
    let written = String::from_utf8_lossy(&ran.stdout).into_owned();
    let place = |text: &str| written.find(text).unwrap_or_else(|| panic!("{text:?} is not in {written:?}"));
    assert!(place("\x1b[?1049h") < place("\x1b[?1049l") && place("\x1b[?1049l") < place("for the test"));
    assert_eq!(written.matches("\x1b[?1049l").count(), 1, "{written:?}");
    assert!(written.ends_with("same\r\n"), "{written:?}");
}
