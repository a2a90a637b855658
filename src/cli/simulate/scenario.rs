//! Scenario files: peers, their lists, and a timeline of faults. `docs/simulate.md` describes every key.

use std::{collections::HashSet, net::SocketAddr, ops::Range, path::Path, time::Duration};

use serde::{Deserialize, Deserializer};
use toml::Spanned;
use wildmatch::WildMatch;

use super::plan::{Event, Listed, MAX_PEERS, Mode, Plan, PlannedBehaviour, PlannedPeer, Schedule};
use crate::{
    config::{
        ConfigError, from_toml, line_at, parse_listen, read_text,
        values::{duration, parse as parse_text},
    },
    opflex::Proxies,
    peer::PeerAddress,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "peer")]
    peers: Vec<PeerKeys>,
    #[serde(default, rename = "event")]
    events: Vec<EventKeys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerKeys {
    name: Spanned<String>,
    listen: Spanned<Listen>,
    #[serde(default)]
    pool: String,
    #[serde(default)]
    anycast: bool,
    lists: Option<Vec<Spanned<String>>>,
    behaviour: Option<Spanned<Mode>>,
    every: Option<Spanned<Time>>,
    #[serde(default)]
    tls: bool,
    #[serde(default, deserialize_with = "proxies")]
    proxies: Option<Proxies>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventKeys {
    at: Spanned<Time>,
    peers: Spanned<Vec<Spanned<String>>>,
    behaviour: Option<Spanned<Mode>>,
    every: Option<Spanned<Time>>,
    lists: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    close: bool,
}

#[derive(Deserialize)]
struct Time(#[serde(with = "duration")] Duration);

struct Listen(SocketAddr);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse_text(from, |text| match parse_listen(text) {
            Ok(address) if address.ip().is_unspecified() => {
                Err(format!("{text:?}: no client can connect to that; give the address of one interface"))
            }
            Ok(address) => Ok(Self(address)),
            Err(reason) => Err(format!("{text:?}: {reason}")),
        })
    }
}

fn proxies<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Proxies>, D::Error> {
    parse_text(from, super::parse_proxies).map(Some)
}

/// Reads a scenario.
///
/// # Errors
/// The first invalid key, with file and line.
pub(super) fn read(path: &Path) -> Result<Plan, ConfigError> {
    let source = path.display().to_string();
    let text = read_text(path, &source)?;
    parse(&text).map_err(|(line, error)| error.within(&format!("{source}:{line}")))
}

/// An error has the number of its line.
fn parse(text: &str) -> Result<Plan, (usize, ConfigError)> {
    let File { peers, events } = from_toml(text)?;
    let check = Check { text, peers: &peers };
    check.peers()?;
    let planned = peers.iter().enumerate().map(|(index, keys)| check.peer(index, keys));
    let planned = planned.collect::<Result<_, _>>()?;
    let timeline = events.iter().enumerate().map(|(index, keys)| check.event(index, keys));
    let mut timeline = timeline.collect::<Result<Vec<_>, _>>()?;
    timeline.sort_by_key(|event| event.at);
    Ok(Plan { peers: planned, schedule: Schedule::Timeline(timeline) })
}

type Checked<T> = Result<T, (usize, ConfigError)>;

/// What one key cannot know by itself.
struct Check<'a> {
    text: &'a str,
    peers: &'a [PeerKeys],
}

impl Check<'_> {
    fn wrong<T>(&self, span: Range<usize>, key: String, reason: String) -> Checked<T> {
        Err((line_at(self.text, span.start), ConfigError::new(key, reason)))
    }

    fn peers(&self) -> Checked<()> {
        if !(1..=MAX_PEERS).contains(&self.peers.len()) {
            let reason = format!("{} peers; 1 to {MAX_PEERS} are allowed", self.peers.len());
            return self.wrong(0..0, "peer".to_owned(), reason);
        }
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        for (index, PeerKeys { name, listen, .. }) in self.peers.iter().enumerate() {
            let text = name.as_ref();
            let place = || (name.span(), format!("peer[{index}].name"));
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
            if text.is_empty() || !text.chars().all(is_name) {
                let (span, key) = place();
                return self.wrong(
                    span,
                    key,
                    format!("{text:?}: letters, digits, '.', '_' and '-' are allowed"),
                );
            }
            if !names.insert(text) {
                let (span, key) = place();
                return self.wrong(span, key, format!("{text:?} is there twice"));
            }
            let address = listen.as_ref().0;
            if address.port() != 0 && !addresses.insert(address) {
                let reason = format!("\"{address}\" is there twice");
                return self.wrong(listen.span(), format!("peer[{index}].listen"), reason);
            }
        }
        Ok(())
    }

    fn peer(&self, index: usize, keys: &PeerKeys) -> Checked<PlannedPeer> {
        let place = format!("peer[{index}]");
        let behaviour = self.behaviour(&place, keys.behaviour.as_ref(), keys.every.as_ref(), keys.tls)?;
        let lists = match &keys.lists {
            Some(entries) => self.list(&place, entries)?,
            None => self.pool(&keys.pool),
        };
        Ok(PlannedPeer {
            name: Some(keys.name.as_ref().clone()),
            listen: keys.listen.as_ref().0,
            behaviour: behaviour.unwrap_or(PlannedBehaviour::new(Mode::Normal)),
            lists,
            is_anycast: keys.anycast,
            proxies: keys.proxies,
            has_tls: keys.tls,
        })
    }

    fn event(&self, index: usize, keys: &EventKeys) -> Checked<Event> {
        let place = format!("event[{index}]");
        let mut peers = Vec::new();
        for (entry, pattern) in keys.peers.as_ref().iter().enumerate() {
            peers.extend(self.matching(&format!("{place}.peers[{entry}]"), pattern)?);
        }
        if peers.is_empty() {
            return self.wrong(keys.peers.span(), format!("{place}.peers"), "names no peer".to_owned());
        }
        let have_tls = peers.iter().all(|peer| self.peers.get(*peer).is_some_and(|keys| keys.tls));
        let behaviour = self.behaviour(&place, keys.behaviour.as_ref(), keys.every.as_ref(), have_tls)?;
        let lists = keys.lists.as_ref().map(|entries| self.list(&place, entries)).transpose()?;
        if behaviour.is_none() && lists.is_none() && !keys.close {
            let reason = "changes nothing: behaviour, lists or close = true is needed";
            return self.wrong(keys.at.span(), place, reason.to_owned());
        }
        Ok(Event { at: keys.at.as_ref().0, peers: deduplicated(peers), behaviour, lists, close: keys.close })
    }

    fn behaviour(
        &self,
        place: &str,
        mode: Option<&Spanned<Mode>>,
        every: Option<&Spanned<Time>>,
        have_tls: bool,
    ) -> Checked<Option<PlannedBehaviour>> {
        if let Some(every) = every
            && mode.map(Spanned::as_ref) != Some(&Mode::Flap)
        {
            let reason = r#"has no effect without behaviour = "flap""#;
            return self.wrong(every.span(), format!("{place}.every"), reason.to_owned());
        }
        let Some(mode) = mode else { return Ok(None) };
        if *mode.as_ref() == Mode::BadTls && !have_tls {
            let reason = r#""bad-tls" is for peers with tls = true"#;
            return self.wrong(mode.span(), format!("{place}.behaviour"), reason.to_owned());
        }
        Ok(Some(PlannedBehaviour {
            mode: *mode.as_ref(),
            every: every.map(|every| every.as_ref().0).unwrap_or_default(),
        }))
    }

    /// The peers of a pool that leaves list: all but anycast addresses.
    fn pool(&self, pool: &str) -> Vec<Listed> {
        let is_leaf = |(_, keys): &(usize, &PeerKeys)| keys.pool == pool && !keys.anycast;
        self.peers.iter().enumerate().filter(is_leaf).map(|(index, _)| Listed::Peer(index)).collect()
    }

    fn list(&self, place: &str, entries: &[Spanned<String>]) -> Checked<Vec<Listed>> {
        let mut list = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let key = format!("{place}.lists[{index}]");
            if !entry.as_ref().contains(':') {
                list.extend(self.matching(&key, entry)?.into_iter().map(Listed::Peer));
                continue;
            }
            match entry.as_ref().parse::<PeerAddress>() {
                Ok(address) => list.push(Listed::Address(address)),
                Err(error) => return self.wrong(entry.span(), key, error.to_string()),
            }
        }
        Ok(deduplicated(list))
    }

    /// The peers with a name, or whose names match a pattern.
    fn matching(&self, key: &str, pattern: &Spanned<String>) -> Checked<Vec<usize>> {
        let glob = WildMatch::new(pattern.as_ref());
        let names = self.peers.iter().enumerate().filter(|(_, keys)| glob.matches(keys.name.as_ref()));
        let found: Vec<_> = names.map(|(index, _)| index).collect();
        if found.is_empty() {
            let reason = format!("{:?} is the name of no peer, nor a pattern for one", pattern.as_ref());
            return self.wrong(pattern.span(), key.to_owned(), reason);
        }
        Ok(found)
    }
}

fn deduplicated<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut once = Vec::with_capacity(items.len());
    for item in items {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    once
}

#[cfg(test)]
mod tests;
