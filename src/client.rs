//! A client of the service: connections and calls ([`Client`]), and watches that resume ([`Watcher`]). `peerstatus` itself uses
//! it for its commands.
//!
//! With `default-features = false, features = ["client"]` the crate is this client, without the dependencies of the service:
//!
//! ```toml
//! [dependencies]
//! opflex-peerstatus = { version = "0.1", default-features = false, features = ["client"] }
//! ```
//!
//! ```no_run
//! use opflex_peerstatus::client::{ConnectOptions, Event, WatchOptions, Watcher};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ConnectOptions::new("127.0.0.1:50051".parse()?);
//! let mut watcher = Watcher::new(service, WatchOptions::default());
//! while let Some(event) = watcher.next().await? {
//!     match event {
//!         Event::Snapshot(state) => println!("{} peers in {} pools", state.peers.len(), state.pools.len()),
//!         Event::Change(change) => println!("{change:?}"),
//!         Event::Gap(gap) => println!("changes were missed: {gap:?}"),
//!         Event::Disconnected { cause, .. } => println!("{cause}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod address;
mod connection;
mod error;
mod follower;
mod messages;
mod notice;
mod options;
#[cfg(all(test, feature = "server"))]
pub(crate) mod samples;
mod watcher;

pub use address::ServerAddress;
pub(crate) use connection::CALL_TIMEOUT;
#[cfg(feature = "server")]
pub(crate) use connection::drop_foreign_body;
pub use connection::{Client, Transport};
#[cfg(feature = "server")]
pub(crate) use error::describe_with_origin;
pub use error::{Cause, Error, Hint, describe, is_local, is_permanent, reason};
#[cfg(feature = "server")]
pub(crate) use follower::{Follower, includes_peers, short_name};
#[cfg(feature = "server")]
pub(crate) use messages::{Item, Messages};
#[cfg(feature = "server")]
pub(crate) use notice::Notice;
pub use options::{Bearer, ConnectOptions};
pub use watcher::{Event, Gap, Start, State, WatchOptions, Watcher};
