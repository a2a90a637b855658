#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    api::pb::PoolHealth,
    cli::tests::samples::{at, pool},
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

#[test]
fn pools_are_a_table() {
    let pools = [pool("default", PoolHealth::Degraded, 2, 3), pool("lab", PoolHealth::Down, 0, 0)];
    assert_eq!(
        pools_table(&pools, Style::default(), now()).join("\n"),
        "\
POOL     HEALTH    SINCE   READY  PEERS  IDENTITY  DOMAIN
default  DEGRADED  3m 12s  2      3      agent-1   comp/prov
lab      DOWN      3m 12s  0      0      agent-1   comp/prov"
    );
    assert_eq!(pools_table(&[], Style::default(), now()), ["no pools"]);
}

#[test]
fn one_pool_is_told_in_full() {
    let text = pool_card(&pool("default", PoolHealth::Healthy, 3, 3), Style::default(), now()).join("\n");
    assert_eq!(
        text,
        "\
name      pools/default
health    HEALTHY
since     1970-01-02T08:27:50.114Z (3m 12s ago)
ready     3 of 3 peers
identity  agent-1
domain    comp/prov
location
revision  9"
    );
}
