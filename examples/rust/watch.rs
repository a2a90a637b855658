//! Prints what happens to peers until Ctrl-C, also across restarts of the service: `cargo run --example watch [SERVER]`.
//! It needs the feature `client` alone.

use std::{env, error::Error};

use opflex_peerstatus::client::{ConnectOptions, Event, WatchOptions, Watcher};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let mut watcher = Watcher::new(ConnectOptions::new(server.parse()?), WatchOptions::default());
    while let Some(event) = watcher.next().await? {
        match event {
            Event::Snapshot(state) => {
                for peer in &state.peers {
                    println!("{} is {}", peer.name, peer.status().as_str_name());
                }
            }
            Event::Change(change) => {
                if let Some(peer) = change.peer.and_then(|change| change.peer) {
                    println!(
                        "{} is {}: {}",
                        peer.name,
                        peer.status().as_str_name(),
                        peer.reason().as_str_name()
                    );
                }
                if let Some(health) = change.health {
                    println!("{} is {}", health.pool, health.health().as_str_name());
                }
            }
            Event::Gap(gap) => println!("changes were missed: {gap:?}"),
            Event::Disconnected { cause, .. } => println!("{cause}"),
            _ => {}
        }
    }
    Ok(())
}
