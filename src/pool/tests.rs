//! The core of a pool: by chance against rules, and in a simulation of both ends.

mod core;
mod simulation;
