//! Integration tests: the real service on real sockets, with real clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod access;
mod admin;
mod admission;
mod alert_series;
mod at_a_glance;
mod bounds;
mod command_line;
mod conformance;
mod connections;
mod continuity;
mod errors;
mod every_call;
mod fleet;
mod fleet_auth;
mod fleet_reading;
mod floods;
mod fuzz;
mod health;
mod history;
mod hostile;
mod http;
mod layering;
mod leaks;
mod lifecycle;
mod listeners;
mod logs;
mod malformed;
mod membership;
mod netns;
mod reasons;
mod recovery;
mod refusals;
mod reload;
mod secured;
mod serving;
mod shutdown;
mod simulate;
mod slow;
mod socket;
mod status_page;
mod support;
mod tls;
mod top;
mod waiting;
