//! A real NATS server with JetStream. Without nats-server the test is skipped with a message.

use std::{fs, path::PathBuf, process::Stdio};

use async_nats::jetstream;
use opflex_peerstatus::config::FleetSection;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Duration, sleep},
};

use super::{Folder, nats_program, report_skipped, within};

/// A server with a store of its own, killed when dropped.
pub(crate) struct NatsServer {
    program: PathBuf,
    folder: Folder,
    port: u16,
    child: Child,
}

impl NatsServer {
    /// `None`, and a message on standard error, if there is no nats-server. `config` is added to its configuration.
    pub(crate) async fn start(config: &str) -> Option<Self> {
        let Some(program) = nats_program::find() else {
            report_skipped("needs nats-server: run `make .tools/stamps/nats-server`");
            return None;
        };
        let folder = Folder::new();
        let path = |name: &str| folder.path(name).display().to_string();
        let store = path("store");
        let text = format!("jetstream {{ store_dir: {store:?}, max_file: 4G }}\n{config}\n");
        folder.write("nats.conf", &text);
        let child = spawn(&program, &folder, -1);
        let port = within("the port of nats-server", port(&folder, child.id().expect("it runs"))).await;
        Some(Self { program, folder, port, child })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Of a node that publishes to it.
    pub(crate) fn section(&self) -> FleetSection {
        FleetSection {
            cluster: Some("lab".parse().unwrap()),
            node: Some("node-1".parse().unwrap()),
            nats: vec![self.url()],
            create_stream: true,
            ..FleetSection::default()
        }
    }

    /// As `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it ends");
    }

    /// Starts it again, on the same port and store.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.program, &self.folder, i32::from(self.port));
        within("nats-server", async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Copies its store, as a backup does, or a disk that has not written the rest.
    pub(crate) fn save(&self) {
        self.pause();
        copy(&self.folder.path("store"), &self.folder.path("saved"));
        self.resume();
    }

    /// Kills it, and starts it with the store as it was saved.
    pub(crate) async fn restore(&mut self) {
        self.kill().await;
        let store = self.folder.path("store");
        fs::remove_dir_all(&store).expect("a folder");
        copy(&self.folder.path("saved"), &store);
        self.restart().await;
    }

    /// It stops to read and to answer, and keeps its connections.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
        kill_process(pid, signal).expect("a signal");
    }

    /// A client with all permissions.
    pub(crate) async fn jetstream(&self) -> jetstream::Context {
        let client = within("a connection to NATS", async_nats::connect(self.url())).await;
        jetstream::new(client.expect("a connection"))
    }

    /// As this user.
    pub(crate) async fn jetstream_as(&self, user: &str, password: &str) -> jetstream::Context {
        let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
        let client = within("a connection to NATS", options.connect(self.url())).await;
        jetstream::new(client.expect("a connection"))
    }
}

fn copy(from: &PathBuf, to: &PathBuf) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a file");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

fn spawn(program: &PathBuf, folder: &Folder, port: i32) -> Child {
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.path("nats.conf"));
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "--ports_file_dir"]).arg(folder.path(""));
    command.arg("-l").arg(folder.path("nats.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("nats-server runs")
}

/// The port that the system chose.
async fn port(folder: &Folder, pid: u32) -> u16 {
    let name = format!("nats-server_{pid}.ports");
    loop {
        let text = fs::read_to_string(folder.path(&name)).unwrap_or_default();
        if let Some(port) =
            text.split("://127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok())
        {
            return port;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
