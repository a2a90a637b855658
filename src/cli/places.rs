//! Which node and pool a peer is of, as tables tell it.

use crate::{
    cli::{table::Cell, text},
    status::node_of,
};

/// What tells peers of one list apart, beside their addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// It is the list of a fleet, which has a column NODE.
    is_fleet: bool,
    /// They are in pools of several names.
    has_pools: bool,
}

impl Places {
    /// For peers of these pools.
    pub(crate) fn of<'a>(pools: impl IntoIterator<Item = &'a str>) -> Self {
        let mut places = Self::default();
        let mut first = None;
        for pool in pools {
            let (node, name) = split(pool);
            places.is_fleet |= !node.is_empty();
            places.has_pools |= *first.get_or_insert(name) != name;
        }
        places
    }

    /// The titles of the columns.
    pub(crate) fn header(self) -> impl Iterator<Item = &'static str> {
        self.is_fleet.then_some("NODE").into_iter().chain(["PEER"])
    }

    /// The cells of a peer, by its full name and its pool.
    pub(crate) fn cells(self, name: &str, pool: &str) -> impl Iterator<Item = Cell> + use<> {
        let (node, pool) = split(pool);
        let node = self.is_fleet.then(|| Cell::plain(node));
        let address = text::peer_address(name);
        let short = if self.has_pools { format!("{pool}/{address}") } else { address.to_owned() };
        node.into_iter().chain([Cell::address(&short)])
    }
}

/// The node, empty for the pool of a single service, and the name that the pool has there.
fn split(pool: &str) -> (&str, &str) {
    let pool = text::pool_name(pool);
    node_of(pool).unwrap_or(("", pool))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Style;

    fn shown(pools: &[&str]) -> Vec<String> {
        let places = Places::of(pools.iter().copied());
        let cells = |pool: &&str| {
            let name = format!("pools/{pool}/peers/a:1");
            places.cells(&name, pool).map(|cell| cell.show(Style::default())).collect::<Vec<_>>().join(" ")
        };
        let header = places.header().collect::<Vec<_>>().join(" ");
        [header].into_iter().chain(pools.iter().map(cells)).collect()
    }

    #[test]
    fn only_a_fleet_has_nodes_and_only_several_pools_have_names() {
        assert_eq!(shown(&["default"]), ["PEER", "a:1"]);
        assert_eq!(shown(&["x", "y"]), ["PEER", "x/a:1", "y/a:1"]);
        assert_eq!(shown(&["n1.x", "n2.x"]), ["NODE PEER", "n1 a:1", "n2 a:1"]);
        assert_eq!(shown(&["n1.x", "n1.y"]), ["NODE PEER", "n1 x/a:1", "n1 y/a:1"]);
    }
}
