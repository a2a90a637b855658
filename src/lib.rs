//! Keeps connections to OpFlex peers alive, and reports their status to any number of gRPC clients.
//!
//! The layers, lowest first. A module uses those above it in this list and none below; `tests/it/layering.rs`
//! holds it to that.
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | pure | [`clock`] | times of changes |
//! | pure | [`opflex`] | the wire protocol: bytes ⇄ messages |
//! | pure | [`peer`] | one peer as a value: address, status, state machine, backoff |
//! | state | [`status`] | current state, one revisioned log, and its listeners |
//! | numbers | [`metrics`] | what is counted and measured |
//! | files | `reload` | reloads files when they change |
//! | files | [`auth`] | authentication and roles |
//! | files | [`tls`] | PEM files to what rustls needs |
//! | I/O | [`transport`] | byte streams to peers |
//! | tasks | [`observe`] | what the agent of this node does, from its log and its sockets |
//! | tasks | [`pool`] | an owner task per pool, a session task per peer |
//! | edge | `error_info`, `deadline` | errors as clients see them; deadlines of calls |
//! | edge | [`pb`] | the messages and clients of the API, generated |
//! | edge | [`client`] | connections to the service, and watches that resume |
//! | edge | [`server`] | sockets, TLS, HTTP, limits, and the layers that every request passes; it knows no API |
//! | edge | [`api`], [`sim`] | the gRPC services; OpFlex peers to develop and demonstrate against |
//! | edge | [`fleet`] | the stream of all nodes, on NATS JetStream |
//! | edge | [`admin`] | the port for operators: status page, metrics, probes |
//! | wiring | [`config`], [`telemetry`], [`app`] | from settings to a running service |
//! | commands | [`cli`] | the command line: the service, its clients, the demonstration |
//!
//! The feature `server`, which is on by default, is all of it. The feature `client` alone is [`client`] and what it needs.

#![cfg_attr(not(feature = "server"), allow(dead_code))] // the client uses a part of the shared modules

#[cfg(test)]
extern crate self as opflex_peerstatus; // as generated code names it

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod cli;
pub mod client;
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod deadline;
pub mod error_info;
#[cfg(feature = "server")]
pub mod fleet;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod observe;
pub mod opflex;
pub mod pb;
pub mod peer;
#[cfg(feature = "server")]
pub mod pool;
mod reload;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod sim;
#[cfg(feature = "server")]
pub mod status;
#[cfg(feature = "server")]
pub mod telemetry;
pub mod tls;
#[cfg(feature = "server")]
pub mod transport;
