//! `peerstatus health`: whether the service takes requests, for probes.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    api::{
        health_pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus},
        pb::{GetPoolRequest, Pool},
    },
    cli::{GlobalArgs, Output, complete, exit::Failure, names, print, text},
};

const EXAMPLES: &str = "\
Examples:
  peerstatus health
  peerstatus health opflex.peerstatus.v1.PoolService
  peerstatus health --pool default    whether the pool has a READY peer, and its health
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
        let client = globals.connect().await?;
        let of_pool = service.starts_with("pools/").then(|| GetPoolRequest { name: service.clone() });
        let response = client.health().check(HealthCheckRequest { service }).await?.into_inner();
        let pool = match of_pool {
            // Whoever may not see the pool may ask whether it serves.
            Some(request) => client.pools().get_pool(request).await.ok().and_then(|it| it.into_inner().pool),
            None => None,
        };
        Ok::<_, Failure>((response, pool))
    };
    let Ok(response) = timeout(args.timeout, answer).await else {
        let (server, timeout) = (&globals.server, args.timeout);
        return Err(Failure::Unreachable(format!(
            "no answer from the service at {server} within {timeout:?}"
        )));
    };
    let (response, pool) = response?;
    let (word, is_serving) = verdict(response);
    print([line(&word, pool.as_ref(), globals.output)])?;
    if is_serving { Ok(()) } else { Err(Failure::AlreadyReported) }
}

/// `SERVING`, and of a pool also its health: it is SERVING while it is DEGRADED.
fn line(word: &str, pool: Option<&Pool>, output: Output) -> String {
    match (output, pool) {
        (Output::Human, None) => word.to_owned(),
        (Output::Human, Some(pool)) => {
            let counts = text::ready_of(pool.ready_count, pool.peer_count);
            format!("{word}: pool {} is {}, {counts}", text::pool_name(&pool.name), text::health(pool.health))
        }
        (Output::Json, None) => json!({ "status": word }).to_string(),
        (Output::Json, Some(pool)) => {
            json!({ "status": word, "health": pool.health().as_str_name() }).to_string()
        }
    }
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
    use crate::{api::pb::PoolHealth, cli::tests::samples::pool};

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

    #[test]
    fn a_pool_is_told_with_its_health() {
        let pool = pool("default", PoolHealth::Degraded, 1, 2);
        let told = |output| line("SERVING", Some(&pool), output);
        assert_eq!(told(Output::Human), "SERVING: pool default is DEGRADED, 1 of 2 peers ready");
        assert_eq!(told(Output::Json), r#"{"health":"POOL_HEALTH_DEGRADED","status":"SERVING"}"#);
        assert_eq!(line("SERVING", None, Output::Json), r#"{"status":"SERVING"}"#);
    }
}
