//! The `peerstatus` binary: arguments, one command, exit code.

use std::{env, process::ExitCode};

use mimalloc::MiMalloc;
use opflex_peerstatus::cli::{self, Exit};
use tokio::runtime::Builder;

/// It returns memory to the system, which glibc keeps for good after a burst of small requests.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match cli::complete() {
        Ok(false) => {}
        Ok(true) => return Exit::Success.into(),
        Err(error) => {
            let _ = error.print(); // nobody to tell if that fails
            return Exit::Failed.into();
        }
    }
    let cli = match cli::parse(env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return Exit::Failed.into();
        }
    };
    let code = runtime.block_on(cli::run(cli));
    runtime.shutdown_background(); // a task blocked by a stopped terminal must not delay the exit
    code
}
