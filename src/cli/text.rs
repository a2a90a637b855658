//! Names, reasons, times and durations as text. Knows no colours and no columns.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use crate::{api::pb, opflex::text::is_control_or_format};

/// Makes text safe for a terminal: control characters, which could move the cursor or repaint the screen, and
/// invisible ones that reorder what is read, become `·`; line breaks and tabs become blanks.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_control_or_format(c) => '·',
            c => c,
        })
        .collect()
}

/// The word for a peer's status, for example `READY`; `UNKNOWN` for an unspecified one, which observed pools have.
pub(crate) fn status(number: i32) -> String {
    known(word(pb::PeerStatus::try_from(number).map(|value| value.as_str_name()), "PEER_STATUS_", number))
}

/// The word for a pool's health, for example `DEGRADED`; `UNKNOWN` for an unspecified one.
pub(crate) fn health(number: i32) -> String {
    known(word(pb::PoolHealth::try_from(number).map(|value| value.as_str_name()), "POOL_HEALTH_", number))
}

/// A reason in words, for example `remote closed`.
pub(crate) fn reason(number: i32) -> String {
    lower(&word(pb::Reason::try_from(number).map(|value| value.as_str_name()), "REASON_", number))
}

/// How a peer came to its pool: `configured` or `learned`.
pub(crate) fn origin(number: i32) -> String {
    lower(&word(pb::PeerOrigin::try_from(number).map(|value| value.as_str_name()), "PEER_ORIGIN_", number))
}

/// From what the status of an observed peer is known: `log`, `socket`, `both`, `inferred`, or `unspecified`.
pub(crate) fn evidence(number: i32) -> String {
    lower(&word(pb::Evidence::try_from(number).map(|value| value.as_str_name()), "EVIDENCE_", number))
}

/// A role in words, for example `policy repository`.
pub(crate) fn role(number: i32) -> String {
    lower(&word(pb::Role::try_from(number).map(|value| value.as_str_name()), "ROLE_", number))
}

/// Whether a listener is watched: `attached` or `detached`.
pub(crate) fn listener_state(number: i32) -> String {
    let value = pb::ListenerState::try_from(number).map(|value| value.as_str_name());
    lower(&word(value, "LISTENER_STATE_", number))
}

/// Whether a node is heard from, for example `STALE`.
pub(crate) fn node_state(number: i32) -> String {
    word(pb::NodeState::try_from(number).map(|value| value.as_str_name()), "NODE_STATE_", number)
}

/// An interest of a listener: `peers`, `health` or `nodes`.
pub(crate) fn interest(number: i32) -> String {
    lower(&word(pb::Interest::try_from(number).map(|value| value.as_str_name()), "INTEREST_", number))
}

/// The reason and what is known beyond it: `connect failed: connection refused (os error 111)`.
pub(crate) fn reason_and_detail(number: i32, detail: &str) -> String {
    let reason = reason(number);
    if detail.is_empty() { reason } else { format!("{reason}: {}", plain(detail)) }
}

/// An enum's name without its prefix. A service newer than this program may send values without a name here.
fn word<E>(name: Result<&'static str, E>, prefix: &str, number: i32) -> String {
    match name {
        Ok(name) => name.strip_prefix(prefix).unwrap_or(name).to_owned(),
        Err(_) => format!("{prefix}{number}"),
    }
}

/// A status or health that the API does not specify is one that is not known.
fn known(word: String) -> String {
    if word == "UNSPECIFIED" { "UNKNOWN".to_owned() } else { word }
}

fn lower(word: &str) -> String {
    word.to_lowercase().replace('_', " ")
}

/// `host:port` of a peer, IPv6 in brackets: the last part of its name.
pub(crate) fn peer_address(name: &str) -> &str {
    name.split_once("/peers/").map_or(name, |(_, address)| address)
}

/// The short name of a pool: `default` for `pools/default`.
pub(crate) fn pool_name(name: &str) -> &str {
    name.strip_prefix("pools/").unwrap_or(name)
}

/// The short name of a node: `worker-1` for `nodes/worker-1`.
pub(crate) fn node_name(name: &str) -> &str {
    name.strip_prefix("nodes/").unwrap_or(name)
}

/// The short name of a listener: `noc` for `listeners/noc`.
pub(crate) fn listener_name(name: &str) -> &str {
    name.strip_prefix("listeners/").unwrap_or(name)
}

/// `2 of 3 peers ready`
pub(crate) fn ready_of(ready: u32, peers: u32) -> String {
    format!("{ready} of {peers} peers ready")
}

/// The time of day in UTC to the millisecond: `08:31:02.114`. Blanks for an unset one.
pub(crate) fn clock(time: Option<&Timestamp>) -> String {
    let Some(time) = time else { return " ".repeat("00:00:00.000".len()) };
    let second = time.seconds.rem_euclid(86_400);
    let millisecond = time.nanos.clamp(0, 999_999_999) / 1_000_000;
    format!("{:02}:{:02}:{:02}.{millisecond:03}", second / 3600, second / 60 % 60, second % 60)
}

/// How long ago a time was, as of `now`: `3m 12s`. Clocks that disagree make it `0s`, an unset time `-`.
pub(crate) fn age(since: Option<&Timestamp>, now: SystemTime) -> String {
    let age = system_time(since).map(|since| now.duration_since(since).unwrap_or_default());
    age.map_or_else(|| "-".to_owned(), duration)
}

/// A time in full, and how long ago it was: `2026-07-30T08:31:02.114Z (3m 12s ago)`. `-` for an unset one.
pub(crate) fn moment(time: Option<&Timestamp>, now: SystemTime) -> String {
    match time {
        Some(_) => format!("{} ({} ago)", stamp(time), age(time, now)),
        None => stamp(time),
    }
}

/// A time in full, to the millisecond: `2026-07-30T08:31:02.114Z`. `-` for an unset one.
pub(crate) fn stamp(time: Option<&Timestamp>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    Timestamp { seconds: time.seconds, nanos: time.nanos / 1_000_000 * 1_000_000 }.to_string()
}

/// The day of a time, in UTC: `2026-07-30`.
pub(crate) fn day(time: Option<&Timestamp>) -> String {
    stamp(time).split('T').next().unwrap_or_default().to_owned()
}

/// How long until a time, as of `now`: `4m 10s`. `0s` once it has passed, `-` for an unset one.
pub(crate) fn until(time: Option<&Timestamp>, now: SystemTime) -> String {
    let left = system_time(time).map(|time| time.duration_since(now).unwrap_or_default());
    left.map_or_else(|| "-".to_owned(), duration)
}

/// The time, if it is set and within the range of the clock.
pub(crate) fn system_time(time: Option<&Timestamp>) -> Option<SystemTime> {
    SystemTime::try_from(*time?).ok()
}

/// A duration in its two largest units, days at most: `3m 12s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// The largest unit alone: `3m`.
pub(crate) fn brief_age(since: &Timestamp, now: SystemTime) -> String {
    age(Some(since), now).split(' ').next().unwrap_or_default().to_owned()
}

/// The same as [`duration`], with milliseconds below a second: `120ms`.
pub(crate) fn short_duration(span: Duration) -> String {
    if span.as_secs() > 0 { duration(span) } else { format!("{}ms", span.as_millis()) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn escape_sequences_and_directional_overrides_lose_their_power() {
        assert_eq!(plain("a\x1b[2Jb\u{9b}31mc\u{202e}d\r\ne\u{7f}"), "a·[2Jb·31mc·d  e·");
        assert_eq!(plain("größe → 日本"), "größe → 日本");
    }

    #[test]
    fn an_unknown_number_keeps_its_meaning() {
        assert_eq!(status(4), "READY");
        assert_eq!(status(77), "PEER_STATUS_77");
        assert_eq!((status(0), health(0)), ("UNKNOWN".to_owned(), "UNKNOWN".to_owned()));
        assert_eq!(reason(13), "remote closed");
        assert_eq!(reason(-5), "reason -5");
    }

    #[test]
    fn times_of_day_are_in_utc_and_survive_nonsense() {
        assert_eq!(clock(Some(&Timestamp { seconds: 1_700_000_062, nanos: 114_999_999 })), "22:14:22.114");
        assert_eq!(clock(Some(&Timestamp { seconds: i64::MIN, nanos: i32::MIN })).len(), 12);
        assert_eq!(clock(None), "            ");
    }

    #[test]
    fn durations_have_two_units_and_clocks_that_disagree_give_zero() {
        assert_eq!(duration(Duration::from_secs(192)), "3m 12s");
        assert_eq!(duration(Duration::from_millis(59_999)), "59s");
        assert_eq!(duration(Duration::from_secs(3600)), "1h 0m");
        assert_eq!(duration(Duration::from_secs(90_000)), "1d 1h");
        assert_eq!(short_duration(Duration::from_micros(999_999)), "999ms");
        assert_eq!(short_duration(Duration::from_millis(1_999)), "1s");
        let since = Timestamp { seconds: 100, nanos: 0 };
        assert_eq!(age(Some(&since), UNIX_EPOCH), "0s");
        assert_eq!(age(None, UNIX_EPOCH), "-");
        assert_eq!(until(Some(&since), UNIX_EPOCH), "1m 40s");
    }

    #[test]
    fn addresses_are_read_from_names() {
        assert_eq!(peer_address("pools/default/peers/[2001:db8::1]:8009"), "[2001:db8::1]:8009");
        assert_eq!(pool_name("pools/default"), "default");
    }
}
