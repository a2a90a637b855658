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
    let mut degraded = pool("default", PoolHealth::Degraded, 2, 3);
    degraded.parked_count = 1;
    degraded.health_since = at(-5); // it was DOWN before
    let pools = [degraded, pool("lab", PoolHealth::Healthy, 1, 1)];
    assert_eq!(
        pools_table(&pools, Style::default(), now()).join("\n"),
        "\
POOL     HEALTH    HOW LONG            READY  WANTED  PARKED  IDENTITY  DOMAIN
default  DEGRADED  not healthy 3m 12s  2      3       1       agent-1   comp/prov
lab      HEALTHY   healthy 3m 12s      1      1       0       agent-1   comp/prov"
    );
    assert_eq!(pools_table(&[], Style::default(), now()), ["no pools"]);
}

#[test]
fn one_pool_is_told_in_full() {
    let text = pool_card(&pool("default", PoolHealth::Healthy, 3, 3), Style::default(), now()).join("\n");
    assert_eq!(
        text,
        "\
name               pools/default
health             HEALTHY
since              1970-01-02T08:27:50.114Z (3m 12s ago)
not healthy since  -
ready              3 of 3 wanted peers
parked             0
identity           agent-1
domain             comp/prov
location
revision           9"
    );
}

#[test]
fn the_health_of_a_stale_node_is_unknown() {
    let mut stale = pool("n-1.default", PoolHealth::Healthy, 0, 1);
    stale.stale_since = at(-5);
    let table = pools_table(&[stale.clone()], Style::default(), now()).join("\n");
    assert!(table.contains("UNKNOWN  node silent 5s, was HEALTHY "), "{table}");
    let card = pool_card(&stale, Style::default(), now()).join("\n");
    assert!(card.contains("UNKNOWN, node silent since 1970-"), "{card}");
    assert!(card.contains(" (5s ago), was HEALTHY\n"), "{card}");
}

#[test]
fn an_observed_pool_has_no_identity_and_says_what_cannot_be_seen() {
    let mut observed = pool("default", PoolHealth::Unspecified, 0, 0);
    (observed.identity, observed.detail) = (None, "there is no file /agent.log".to_owned());
    let text = pool_card(&observed, Style::default(), now()).join("\n");
    assert_eq!(
        text,
        "\
name               pools/default
health             UNKNOWN
since              1970-01-02T08:27:50.114Z (3m 12s ago)
not healthy since  1970-01-02T08:27:50.114Z (3m 12s ago)
ready              0 of 0 wanted peers
parked             0
observed           the connections of the opflex-agent
detail             there is no file /agent.log
revision           9"
    );
}
