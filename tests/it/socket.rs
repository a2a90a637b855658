//! The Unix socket.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use opflex_peerstatus::{
    app::Service,
    config::{self, Config},
};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{ClientFiles, peerstatus, settings, start, within};

fn at(path: PathBuf) -> Config {
    let mut settings = settings(&[]);
    settings.server.socket = Some(config::SocketSection { path, mode: 0o640, owner: None, group: None });
    settings
}

async fn stop(service: Service) {
    service.stopper().cancel();
    within("the end of the service", service.join()).await.unwrap();
}

#[tokio::test]
async fn it_is_served_beside_the_port_with_its_mode_and_goes_with_the_service() {
    let files = ClientFiles::new();
    let path = files.path("peerstatus.sock");
    let service = start(at(path.clone())).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    for server in [format!("unix:{}", path.display()), service.address().to_string()] {
        let output = peerstatus(&["health", "--server", &server]).await;
        assert_eq!(output.stdout, b"SERVING\n", "{server}");
    }
    stop(service).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn who_watches_over_it_is_known_by_its_process() {
    let files = ClientFiles::new();
    let path = files.path("peerstatus.sock");
    let service = start(at(path.clone())).await.unwrap();
    let server = format!("unix:{}", path.display());
    let mut watch = crate::support::Process::start(&["watch", "-o", "json", "--server", &server]);
    let attached: Value = serde_json::from_str(&watch.line().await.unwrap()).unwrap();
    let client = attached["attached"]["listener"]["client"].as_str().unwrap();
    assert!(client.starts_with("unix:pid=") && client.contains(",uid="), "{client}");
    stop(service).await;
}

#[tokio::test]
async fn what_a_dead_process_left_is_replaced_and_what_is_alive_or_is_no_socket_is_not() {
    let files = ClientFiles::new();
    let path = files.path("peerstatus.sock");
    // A listener that is dropped leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let service = start(at(path.clone())).await.unwrap();
    let refused = start(at(path.clone())).await.err().unwrap();
    assert_eq!(refused.to_string(), format!("cannot serve on unix:{}", path.display()));
    assert_eq!(std::error::Error::source(&refused).unwrap().to_string(), "another process listens on it");
    stop(service).await;
    files.write("peerstatus.sock", "something of somebody's");
    let refused = start(at(path.clone())).await.err().unwrap();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(why, "the path is a file that is not a socket");
    assert!(path.exists(), "and it is left alone");
}

/// Who waits to be taken in fills its queue, and whoever comes next would wait for ever.
#[tokio::test]
async fn a_socket_of_a_process_that_hangs_is_taken() {
    let files = ClientFiles::new();
    let path = files.path("peerstatus.sock");
    let address = SockAddr::unix(&path).unwrap();
    let hangs = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    hangs.bind(&address).unwrap();
    hangs.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        if client.connect(&address).is_err() {
            break;
        }
        waiting.push(client);
    }
    let refused = start(at(path)).await.err().unwrap();
    assert_eq!(std::error::Error::source(&refused).unwrap().to_string(), "another process listens on it");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_with_what_would() {
    let files = ClientFiles::new();
    for (keys, told) in [
        ("path = \"\"", "server.socket.path: has 0 bytes; 1 to 107 are allowed"),
        ("path = \"/a\"\nmode = \"888\"", "server.socket.mode: \"888\" is not 0000 to 0777"),
        ("path = \"/a\"\nowner = \"nobody-of-that-name\"", "is not in /etc/passwd; use a number"),
        ("path = \"/a\"\ngroup = \"nobody-of-that-name\"", "is not in /etc/group; use a number"),
    ] {
        let file = files.write("peerstatus.toml", &format!("[server.socket]\n{keys}"));
        let output = peerstatus(&["serve", "--check", "--config", file.to_str().unwrap()]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(64) && error.contains(told), "{error}");
    }
}
