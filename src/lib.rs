//! Keeps connections to OpFlex peers alive, and reports their status to any number of gRPC clients.
//!
//! The layers, lowest first. A module uses those above it in this list and none below; `tests/it/layering.rs`
//! holds it to that.
//!
//! | layer | module | what it is |
//! |---|---|---|
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
//! | edge | [`server`] | sockets, TLS, HTTP, limits, and the layers that every request passes; it knows no API |
//! | edge | [`api`], [`sim`] | the gRPC services; OpFlex peers to develop and demonstrate against |
//! | edge | [`fleet`] | the stream of all nodes, on NATS JetStream |
//! | edge | [`admin`] | the port for operators: status page, metrics, probes |
//! | wiring | [`config`], [`telemetry`], [`app`] | from settings to a running service |
//! | commands | [`cli`] | the command line: the service, its clients, the demonstration |

#[cfg(test)]
extern crate self as opflex_peerstatus; // as generated code names it

pub mod admin;
pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod deadline;
pub mod error_info;
pub mod fleet;
pub mod metrics;
pub mod observe;
pub mod opflex;
pub mod peer;
pub mod pool;
mod reload;
pub mod server;
pub mod sim;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod transport;
