//! `peerstatus health`: whether the service takes requests, for probes.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    api::health_pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus},
    cli::{GlobalArgs, Output, complete, exit::Failure, names, print},
};

const EXAMPLES: &str = "\
Examples:
  peerstatus health
  peerstatus health opflex.peerstatus.v1.PoolService
  peerstatus health --pool default    whether the pool has a READY peer
  peerstatus health --server 127.0.0.1:50051 --timeout 500ms
  peerstatus health -o json

In a container, as readinessProbe: exec: command: [peerstatus, health]

Can be asked for: opflex.peerstatus.v1.PeerStatusService, opflex.peerstatus.v1.PoolService
and pools/NAME, which is the same as --pool NAME.

Without a pool, it checks only whether the service takes requests, not the peers. To wait
for a pool, there is `pool wait`. Exits with 0 for SERVING, with 1 for NOT_SERVING and where there is no such service,
with 69 without a response in time.";

/// The options of `health`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HealthArgs {
    /// One of the services that the server offers, by its full name [default: the server as a whole]
    #[arg(default_value = "", hide_default_value = true)]
    service: String,

    /// Ask whether this pool has a READY peer
    #[arg(long, value_name = "NAME", value_parser = names::pool, conflicts_with = "service",
          add = ArgValueCompleter::new(complete::pools))]
    pool: Option<String>,

    /// How long the answer may take, connecting included
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1s")]
    timeout: Duration,
}

/// Runs the command.
pub(crate) async fn run(args: HealthArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let service = args.pool.unwrap_or(args.service);
    let answer = async {
        let mut client = globals.connect().await?.health();
        Ok::<_, Failure>(client.check(HealthCheckRequest { service }).await?.into_inner())
    };
    let Ok(response) = timeout(args.timeout, answer).await else {
        let (server, timeout) = (&globals.server, args.timeout);
        return Err(Failure::Unreachable(format!(
            "no answer from the service at {server} within {timeout:?}"
        )));
    };
    let (word, is_serving) = verdict(response?);
    print([match globals.output {
        Output::Human => word,
        Output::Json => json!({ "status": word }).to_string(),
    }])?;
    if is_serving { Ok(()) } else { Err(Failure::AlreadyReported) }
}

/// The status by name, and whether it is SERVING.
fn verdict(response: HealthCheckResponse) -> (String, bool) {
    match ServingStatus::try_from(response.status) {
        Ok(status) => (status.as_str_name().to_owned(), status == ServingStatus::Serving),
        Err(_) => (format!("STATUS_{}", response.status), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_yes() {
        for (status, expected) in [
            (0, ("UNKNOWN", false)),
            (1, ("SERVING", true)),
            (2, ("NOT_SERVING", false)),
            (3, ("SERVICE_UNKNOWN", false)),
            (77, ("STATUS_77", false)),
        ] {
            let (word, is_serving) = verdict(HealthCheckResponse { status });
            assert_eq!((word.as_str(), is_serving), expected);
        }
    }
}
