//! `peerstatus top` in a terminal.

use tokio::process::Command;

use crate::support::{Folder, Process, Tmux, peerstatus};

/// What the shell says when `top` ends. It is part of the line that starts `top`: a line that is
/// typed while `top` ends may reach `top`, or be echoed before the prompt.
const COMPARE: &str = r#"code=$?; [ "$before" = "$(stty -g)" ] && echo same terminal, code $code"#;

/// A simulated peer in a process of its own, and its address.
async fn leaf() -> (Process, String) {
    let mut process = Process::start(&["simulate", "--ports", "0"]);
    let line = process.line().await.expect("a line for each peer");
    (process, line.strip_suffix(" up").expect("a peer that is up").to_owned())
}

/// The address in the first row, which is the one that is marked.
fn first(screen: &str) -> &str {
    let row = screen.lines().find_map(|line| line.strip_prefix("> ")).unwrap_or_default();
    row.split_whitespace().next().unwrap_or_default()
}

#[tokio::test]
async fn top_follows_the_service_across_a_restart_and_leaves_the_terminal_as_it_was() {
    let Some(terminal) = Tmux::start().await else { return };
    let (leaves, folder) = ([leaf().await, leaf().await], Folder::new());
    let peers: Vec<_> = leaves.iter().flat_map(|(_, address)| ["--peer", address.as_str()]).collect();
    let serve = |listen: &str| Process::start(&[&["serve", "--listen", listen], &peers[..]].concat());
    let mut service = serve("127.0.0.1:0");
    let address = service.address().await;

    terminal.run("before=$(stty -g)").await;
    let modes = terminal.modes().await;
    assert_eq!(modes, "alternate 0, cursor 1");
    let pid = folder.write("pid", "");
    terminal.run(&format!("sh -c 'echo $$ >{pid}; exec $BIN top --server {address}'; {COMPARE}")).await;
    let screen = terminal.until("two peers", |screen| screen.contains("2 of 2 READY")).await;
    assert!(screen.starts_with(&format!("● live, {address}\n")), "{screen}");
    assert!(screen.contains("● HEALTHY"), "{screen}");
    assert_eq!(terminal.modes().await, "alternate 1, cursor 0");

    let dead = leaves.iter().position(|(_, address)| address != first(&screen)).unwrap();
    leaves[dead].0.signal("KILL").await;
    let is_first = |screen: &str| screen.contains("▲ DEGRADED") && first(screen) == leaves[dead].1;
    let screen = terminal.until("the killed peer in the first row", is_first).await;
    assert!(screen.contains("1 of 2 READY") && screen.contains("not ready "), "{screen}");

    service.signal("TERM").await;
    service.ended().await;
    terminal.until("not live", |screen| screen.starts_with("✕ not live since ")).await;
    let mut service = serve(&address);
    assert_eq!(service.address().await, address);
    terminal
        .until("live again", |screen| screen.starts_with("● live") && screen.contains("1 of 2 READY"))
        .await;

    terminal.keys(&["Enter"]).await;
    terminal
        .until("details and history", |screen| screen.contains("origin") && screen.contains("LASTED"))
        .await;
    terminal.keys(&["Escape"]).await;
    terminal.keys(&["r"]).await;
    terminal
        .until("the question", |screen| screen.contains("close its connection and start over? y/n"))
        .await;
    terminal.keys(&["y"]).await;
    let result = format!("{} was reset", leaves[dead].1);
    terminal.until("the result", |screen| screen.contains(&result)).await;

    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(Command::new("kill").args(["-s", "TERM", pid.trim()]).status().await.unwrap().success());
    terminal.until("the exit code", |screen| screen.contains("same terminal, code 143\n")).await;
    assert_eq!(terminal.modes().await, modes);

    for (key, code) in [("q", "0"), ("C-c", "130")] {
        terminal.run(&format!("clear; $BIN top --server {address}; {COMPARE}")).await;
        terminal.until("the display", |screen| screen.contains("● live")).await;
        terminal.keys(&[key]).await;
        let result = format!("same terminal, code {code}\n");
        terminal.until("the exit code", |screen| screen.contains(&result)).await;
        assert_eq!(terminal.modes().await, modes);
    }
}

#[tokio::test]
async fn without_a_terminal_top_names_what_to_use_instead() {
    for args in [&["top"][..], &["demo", "--top"]] {
        let output = peerstatus(args).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        assert!(stderr.contains("`peerstatus peers list --watch` and `peerstatus watch`"), "{stderr}");
    }
}
