//! Keeps connections to OpFlex peers alive, and tells any number of gRPC clients what happens to them.
//!
//! The layers, lowest first. A module uses those above it in this list and none below; `tests/it/layering.rs`
//! holds it to that.
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | pure | [`http2`] | what clients speak: bytes to requests, answers to bytes |
//! | pure | [`opflex`] | the wire protocol: bytes ⇄ messages |
//! | pure | [`peer`] | one peer as a value: address, status, state machine, backoff |
//! | numbers | [`metrics`] | what is counted and measured |
//! | state | [`status`] | what listeners hear: current state and one revisioned log |
//! | files | `reload` | files that are loaded again when they change |
//! | files | [`auth`] | who may do what |
//! | files | [`tls`] | PEM files to what rustls needs |
//! | I/O | [`transport`] | byte streams to peers |
//! | tasks | [`pool`] | an owner task per pool, a session task per peer |
//! | edge | [`grpc`], [`admin`], [`sim`] | the API; the port for operators; OpFlex peers to develop and demonstrate against |
//! | wiring | [`config`], [`telemetry`], [`app`] | from settings to a running service |
//! | commands | [`cli`] | the command line: the service, its clients, the demonstration |

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod grpc;
pub mod http2;
pub mod metrics;
pub mod opflex;
pub mod peer;
pub mod pool;
mod reload;
pub mod sim;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod transport;
