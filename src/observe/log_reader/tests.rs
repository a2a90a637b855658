//! Real files in a directory of their own.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::*;

struct Log {
    directory: TempDir,
    reader: FileReader,
}

impl Log {
    /// Files with these contents, and a reader of the pattern.
    fn new(pattern: &str, files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let reader = FileReader::new(directory.path().join(pattern).to_str().unwrap());
        let log = Self { directory, reader };
        for (name, text) in files {
            log.append(name, text);
        }
        log
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What is read until there is no more: lines as they are, other events in brackets.
    fn read(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            for event in self.reader.poll() {
                match event {
                    LogEvent::History(lines) => {
                        found.push("(history)".to_owned());
                        found.extend(lines.iter().map(|line| line.message.to_string()));
                        found.push("(live)".to_owned());
                    }
                    LogEvent::Lines(lines) => found.extend(lines.iter().map(|line| line.message.to_string())),
                    LogEvent::Lost(loss) => found.push(format!("({})", loss.cause.as_str())),
                    LogEvent::NewInstance => found.push("(new)".to_owned()),
                }
            }
            if !self.reader.has_more() {
                return found;
            }
        }
    }

    /// Reads until this was found, because directories are not looked at in each poll.
    fn read_until(&mut self, last: &str) -> Vec<String> {
        let (start, mut found) = (Instant::now(), Vec::new());
        while found.last().is_none_or(|it| it != last) {
            assert!(start.elapsed() < Duration::from_secs(10), "{found:?}");
            found.extend(self.read());
            thread::sleep(Duration::from_millis(10));
        }
        found
    }
}

#[test]
fn what_was_there_is_history_and_what_comes_is_new() {
    let mut log = Log::new("agent.log", &[("agent.log.1", "a\n"), ("agent.log", "b\nc")]);
    assert_eq!(log.read(), ["(history)", "a", "b", "(live)"]);
    log.append("agent.log", "d\ne\nf");
    assert_eq!(log.read(), ["cd", "e"]);
    log.append("agent.log", "\n");
    assert_eq!(log.read(), ["f"]);
    assert_eq!(log.read(), [""; 0]);
}

#[test]
fn of_a_long_log_the_last_part_is_history() {
    let line = format!("{}\n", "x".repeat(1023));
    let mut log = Log::new("agent.log", &[("agent.log", &line.repeat(5 << 10))]);
    let found = log.read();
    assert_eq!(found.len(), 2 + (4 << 10) - 1, "all whole lines of the last 4 MiB");
    assert!(found[1..found.len() - 1].iter().all(|it| it.len() == 1023));
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_then_the_new_one() {
    let mut log = Log::new("agent.log", &[("agent.log", "a\n")]);
    log.read();
    log.append("agent.log", "b\n");
    log.rename("agent.log", "agent.log.1");
    log.append("agent.log.1", "c\n");
    log.append("agent.log", "");
    assert_eq!(log.read(), ["b", "c"]);
    log.append("agent.log.1", "d\n"); // the agent has not opened the new one yet
    assert_eq!(log.read(), ["d"]);
    log.append("agent.log", "e\n");
    assert_eq!(log.read(), ["e"]);
    log.append("agent.log", "f\n");
    assert_eq!(log.read(), ["f"]);
}

#[test]
fn several_rotations_between_two_polls_lose_nothing() {
    let mut log = Log::new("0.log", &[("0.log", "a\n")]);
    log.read();
    for (name, text) in [("0.log.20261129-195100", "b\n"), ("0.log.20261129-195200", "c\n")] {
        log.append("0.log", text);
        log.rename("0.log", name);
        thread::sleep(Duration::from_millis(20)); // times of files are as exact as the kernel's tick
    }
    log.append("0.log", "d\n");
    log.append("0.log.20261129-195000.gz", "compressed");
    assert_eq!(log.read(), ["b", "c", "d"]);
}

#[test]
fn a_line_goes_on_in_the_next_file() {
    let part = |tag, text| format!("2026-11-29T19:50:57.396648123Z stdout {tag} {text}\n");
    let mut log = Log::new("0.log", &[("0.log", &part("F", "a"))]);
    log.read();
    log.append("0.log", &part("P", "on"));
    log.rename("0.log", "0.log.20261129-195100");
    assert_eq!(log.read(), [""; 0]);
    log.append("0.log", &part("F", "e"));
    assert_eq!(log.read(), ["one"]);
}

#[test]
fn a_truncated_or_overwritten_file_is_a_loss_and_what_it_has_then_is_read() {
    for rewritten in ["c\n", "xx\n", "yyyyyyyyyyyyyyyy\n"] {
        let mut log = Log::new("agent.log", &[("agent.log", "a\n")]);
        log.read();
        log.append("agent.log", "bb\n");
        assert_eq!(log.read(), ["bb"]);
        fs::copy(log.path("agent.log"), log.path("agent.log.1")).unwrap();
        fs::write(log.path("agent.log"), rewritten).unwrap();
        assert_eq!(log.read(), ["(truncated)", rewritten.trim_end()]);
        log.append("agent.log", "d\n");
        assert_eq!(log.read(), ["d"]);
    }
}

#[test]
fn a_deleted_file_is_read_to_its_end() {
    let mut log = Log::new("agent.log", &[("agent.log", "a\n")]);
    log.read();
    let mut file = OpenOptions::new().append(true).open(log.path("agent.log")).unwrap();
    file.write_all(b"b\n").unwrap();
    fs::remove_file(log.path("agent.log")).unwrap();
    assert_eq!(log.read(), ["b"]);
    file.write_all(b"c\n").unwrap();
    assert_eq!(log.read(), ["c"]);
    log.append("agent.log", "d\n");
    assert_eq!(log.read(), ["d"]);
}

#[test]
fn a_log_that_appears_later_is_new_from_its_beginning() {
    let mut log = Log::new("pods/*/agent/*.log", &[]);
    assert_eq!(log.read(), ["(unreadable)"]);
    log.append("pods/aci_1/agent/0.log", "a\n");
    assert_eq!(log.read_until("a"), ["a"]);
}

#[test]
fn a_restarted_container_and_a_new_pod_are_new_instances() {
    let mut log = Log::new("pods/*/agent/*.log", &[("pods/aci_1/agent/9.log", "a\n")]);
    log.append("pods/aci_1/agent/8.log", "old\n");
    assert_eq!(log.read(), ["(history)", "a", "(live)"]);
    log.append("pods/aci_1/agent/9.log", "b\n");
    log.append("pods/aci_1/agent/10.log", "c\n");
    assert_eq!(log.read_until("c"), ["b", "(new)", "c"]);
    thread::sleep(Duration::from_millis(2100));
    log.append("pods/aci_2/agent/0.log", "d\n");
    assert_eq!(log.read_until("d"), ["(new)", "d"]);
}

#[test]
fn only_regular_files_that_may_be_read_are_read() {
    let mut log = Log::new("agent.log", &[]);
    rustix::fs::mkfifoat(rustix::fs::CWD, log.path("agent.log"), rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(log.read(), ["(unreadable)"]);
    let mut log = Log::new("agent.log", &[]);
    fs::create_dir(log.path("agent.log")).unwrap();
    assert_eq!(log.read(), ["(unreadable)"]);
    fs::remove_dir(log.path("agent.log")).unwrap();
    if rustix::process::geteuid().is_root() {
        return; // who may read everything
    }
    let mut log = Log::new("agent.log", &[("agent.log", "a\n")]);
    fs::set_permissions(log.path("agent.log"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(log.read(), ["(unreadable)"]);
    fs::set_permissions(log.path("agent.log"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(log.read_until("(live)"), ["(history)", "a", "(live)"]);
}

#[test]
fn nothing_is_lost_or_doubled_while_a_log_is_rotated_all_the_time() {
    let mut log = Log::new("0.log", &[("0.log", "start\n")]);
    log.read();
    let path = log.path("0.log");
    let writer = thread::spawn(move || {
        for file in 0..20 {
            let mut open = OpenOptions::new().create(true).append(true).open(&path).unwrap();
            for line in 0..500 {
                writeln!(open, "{file} {line}").unwrap();
            }
            fs::rename(&path, path.with_extension(format!("log.{file:02}"))).unwrap();
            writeln!(open, "{file} renamed").unwrap();
            thread::sleep(Duration::from_millis(12));
        }
        fs::write(&path, "end\n").unwrap();
    });
    let found = log.read_until("end");
    writer.join().unwrap();
    let of_file =
        |file| (0..500).map(move |line| format!("{file} {line}")).chain([format!("{file} renamed")]);
    let expected: Vec<_> = (0..20).flat_map(of_file).chain(["end".to_owned()]).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_journal_is_read_by_a_program_that_is_started_again() {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("journalctl");
    let script = "#!/bin/sh\n\
        printf '__REALTIME_TIMESTAMP=1000000\\nMESSAGE=old\\n\\n__REALTIME_TIMESTAMP=33000000000000000\\nMESSAGE=new\\n\\n'\n\
        echo \"$*\" >> \"$0.args\"\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let (sender, mut events) = mpsc::channel(1);
    let path = program.to_str().unwrap().to_owned();
    let reading =
        tokio::spawn(async move { journalctl::follow(&path, "opflex-agent.service", &sender).await });
    let mut messages = Vec::new();
    while messages.len() < 5 {
        messages.push(match events.recv().await.unwrap().remove(0).event {
            LogEvent::History(lines) => format!("history {}", lines[0].message),
            LogEvent::Lines(lines) => lines.iter().map(|line| &*line.message).collect::<Vec<_>>().join(" "),
            LogEvent::Lost(loss) => loss.cause.as_str().to_owned(),
            LogEvent::NewInstance => unreachable!(),
        });
    }
    assert_eq!(messages, ["history old", "new", "ended", "", "old new"]);
    drop(events);
    reading.await.unwrap();
    let args = fs::read_to_string(directory.path().join("journalctl.args")).unwrap();
    assert!(args.starts_with(
        "--follow --output=export --no-pager --quiet --lines=5000 --unit=opflex-agent.service\n"
    ));
}

#[tokio::test]
async fn a_unit_without_entries_is_no_log_until_there_are_some() {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("journalctl");
    fs::write(&program, "#!/bin/sh\ncase $* in *--follow*) exec sleep 60;; esac\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let path = program.to_str().unwrap().to_owned();
    assert!(
        journalctl::check(&path, "agent.service")
            .unwrap_err()
            .contains("no entries of the unit agent.service")
    );
    assert!(
        journalctl::check("/no/such/program", "agent.service").unwrap_err().contains("run /no/such/program")
    );
    let (sender, mut events) = mpsc::channel(1);
    let reading = tokio::spawn(async move { journalctl::follow(&path, "agent.service", &sender).await });
    assert_eq!(events.recv().await.unwrap().remove(0).event, LogEvent::History(Vec::new()));
    let LogEvent::Lost(loss) = events.recv().await.unwrap().remove(0).event else { unreachable!() };
    assert_eq!(loss.cause, LossCause::Unreadable);
    assert!(loss.detail.contains("no entries of the unit agent.service"), "{}", loss.detail);
    reading.abort();
}

#[test]
fn whether_there_is_a_log_can_be_checked() {
    let log = Log::new("agent.log", &[]);
    let source = |name: &str| LogSource::Files(log.path(name).to_str().unwrap().to_owned());
    let missing = |name: &str| check_log(&source(name)).unwrap_err();
    assert_eq!(missing("agent.log"), format!("there is no file {}", log.path("agent.log").display()));
    assert_eq!(missing("*.log"), format!("no file matches {}", log.path("*.log").display()));
    log.append("agent.log", "");
    assert_eq!((check_log(&source("agent.log")), check_log(&source("*.log"))), (Ok(()), Ok(())));
}
