//! Which nats-server tests and benchmarks run.

use std::{env, path::PathBuf};

/// In the order of precedence: `NATS_SERVER`, the one that make installs, `PATH`.
pub(crate) fn find() -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/nats-server");
    let named = env::var_os("NATS_SERVER").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("nats-server"));
    named.into_iter().chain([own]).chain(on_path).find(|program| program.is_file())
}
