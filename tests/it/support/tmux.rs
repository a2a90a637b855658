//! A terminal: a shell in tmux. Without tmux the test is skipped with a message.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::sleep};

use super::{process::BINARY, report_skipped, within};

const COLUMNS: &str = "110";
const ROWS: &str = "30";
const POLL: Duration = Duration::from_millis(50);

/// A shell in a terminal of its own; both end when it is dropped.
pub(crate) struct Tmux {
    /// The name of the tmux server's socket.
    server: String,
}

impl Tmux {
    /// `None`, and a message on standard error, if there is no tmux.
    pub(crate) async fn start() -> Option<Self> {
        let this = Self { server: format!("peerstatus-{:016x}", fastrand::u64(..)) };
        let mut command = this.command(&["new-session", "-d", "-x", COLUMNS, "-y", ROWS, "env PS1='$ ' sh"]);
        command
            .env("BIN", BINARY)
            .env("LANG", "C.UTF-8")
            .env_remove("NO_COLOR")
            .env_remove("LC_ALL")
            .env_remove("TMUX");
        command.env_remove("PEERSTATUS_SERVER");
        match command.status().await {
            Ok(status) if status.success() => Some(this),
            other => {
                report_skipped(&format!("needs tmux: {other:?}"));
                None
            }
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.server, "-f", "/dev/null"]).args(args).stderr(Stdio::null());
        command
    }

    async fn output(&self, args: &[&str]) -> String {
        let output = within("tmux", self.command(args).output()).await.expect("tmux runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Types a line into the shell; `$BIN` is the binary.
    pub(crate) async fn run(&self, line: &str) {
        self.keys(&[line, "Enter"]).await;
    }

    /// Presses keys, by their names in tmux.
    pub(crate) async fn keys(&self, keys: &[&str]) {
        self.output(&[&["send-keys"][..], keys].concat()).await;
    }

    /// What is on the screen.
    pub(crate) async fn screen(&self) -> String {
        self.output(&["capture-pane", "-p"]).await
    }

    /// Whether the alternate screen is shown, and whether the cursor is.
    pub(crate) async fn modes(&self) -> String {
        let modes = "alternate #{alternate_on}, cursor #{cursor_flag}";
        self.output(&["display-message", "-p", modes]).await.trim().to_owned()
    }

    /// Waits until the screen is as wanted.
    pub(crate) async fn until(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        for _ in 0..600 {
            last = self.screen().await;
            if is_there(&last) {
                return last;
            }
            sleep(POLL).await;
        }
        panic!("{what}: not on the screen:\n{last}");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let kill = std::process::Command::new("tmux").args(["-L", &self.server, "kill-server"]).output();
        drop(kill);
    }
}
