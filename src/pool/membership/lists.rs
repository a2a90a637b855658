//! Peer lists in words, for people who wonder why a peer is not wanted: a name and its address are two peers, and only
//! the list shows which spelling is the right one.

use std::{collections::BTreeSet, sync::Arc};

use crate::{opflex::text::clip, peer::PeerAddress};

/// How many names of a list are told: enough to recognise a spelling.
const SHOWN: usize = 4;
/// How many bytes they may have together: with the longest name of the peer itself that is a whole sentence yet.
const ROOM: usize = 200;
/// Longest detail, in bytes, as the API has it.
const MAX_DETAIL: usize = 512;

/// What `by` lists, and that `missing` is not there: `it lists 127.0.0.1:18009, 127.0.0.1:18010, not localhost:18009`.
pub(super) fn instead_of(missing: &PeerAddress, by: &PeerAddress, list: &BTreeSet<PeerAddress>) -> Arc<str> {
    let who = if by == missing { "it".to_owned() } else { by.to_string() };
    let detail = match in_words(list) {
        None => format!("{who} lists nobody"),
        Some(names) => format!("{who} lists {names}, not {missing}"),
    };
    Arc::from(clip(&detail, MAX_DETAIL))
}

/// `a:1, b:1, c:1, d:1 and 3 more`; `None` if there is nobody.
fn in_words(list: &BTreeSet<PeerAddress>) -> Option<String> {
    let mut room = ROOM;
    let fits = |name: &String| {
        let left = room.checked_sub(name.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let shown: Vec<_> = list.iter().take(SHOWN).map(ToString::to_string).take_while(fits).collect();
    match (shown.len(), list.len() - shown.len()) {
        (0, 0) => None,
        (0, others) => Some(format!("{others} others")),
        (_, 0) => Some(shown.join(", ")),
        (_, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn detail(missing: &str, by: &str, list: &[&str]) -> String {
        let at = |text: &str| text.parse::<PeerAddress>().unwrap();
        instead_of(&at(missing), &at(by), &list.iter().map(|text| at(text)).collect()).to_string()
    }

    #[test]
    fn a_list_is_told_beside_the_name_that_it_lacks() {
        let own = |list: &[&str]| detail("localhost:18009", "localhost:18009", list);
        let expected = "it lists 127.0.0.1:18009, 127.0.0.1:18010, not localhost:18009";
        assert_eq!(own(&["127.0.0.1:18009", "127.0.0.1:18010"]), expected);
        assert_eq!(own(&[]), "it lists nobody");
        assert_eq!(detail("b:1", "a:1", &["a:1", "[::1]:2"]), "a:1 lists [::1]:2, a:1, not b:1");
    }

    #[test]
    fn a_long_list_is_cut_to_a_few_names() {
        let names: Vec<_> = (0..1000).map(|number| format!("leaf-{number:04}:8009")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(
            detail("x:1", "x:1", &names),
            "it lists leaf-0000:8009, leaf-0001:8009, leaf-0002:8009, leaf-0003:8009 and 996 more, not x:1"
        );
        let long = ["a", "b", "c"].map(|letter| format!("{}:65535", letter.repeat(253)));
        let [a, b, c] = long.each_ref().map(String::as_str);
        assert_eq!(detail(a, a, &[b, c]), format!("it lists 2 others, not {a}"));
        assert!(detail(a, b, &[c]).len() <= MAX_DETAIL, "the longest that there can be");
    }
}
