//! The `peerstatus` binary.

fn main() {}
