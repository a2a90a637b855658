//! How long an answer may take. Read here and not left to the transport, which cuts a call off without a word about
//! what it was waiting for.

use std::{cmp, time::Duration};

use tonic::metadata::MetadataMap;

/// Calls that name no deadline are answered within this.
const DEFAULT: Duration = Duration::from_secs(5 * 60);
/// No call waits longer, whatever its deadline.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The answer sets out this long before the client gives up, or a tenth of its patience if that is less: time enough
/// for the way back.
const WAY_BACK: Duration = Duration::from_millis(100);

/// How long the call that these headers belong to may wait.
pub(super) fn patience(metadata: &MetadataMap) -> Duration {
    let header = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok());
    let Some(timeout) = header.and_then(parse) else {
        return DEFAULT;
    };
    timeout.saturating_sub(cmp::min(timeout / 10, WAY_BACK)).min(LONGEST)
}

/// Up to eight digits and a unit, as gRPC over HTTP/2 has it. As the transport does, anything else is overlooked.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience_of(timeout: &'static str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", tonic::metadata::MetadataValue::from_static(timeout));
        patience(&metadata)
    }

    #[test]
    fn the_answer_sets_out_before_the_client_gives_up() {
        for (timeout, expected) in [
            ("30S", 29_900),
            ("1S", 900),
            ("500m", 450),
            ("2000000u", 1_900),
            ("1000000n", 0),
            ("2M", 119_900),
            ("1H", 3_599_900),
            ("0S", 0),
        ] {
            assert_eq!(patience_of(timeout).as_millis(), expected, "{timeout}");
        }
    }

    #[test]
    fn a_call_without_a_deadline_or_with_nonsense_for_one_waits_for_the_default() {
        assert_eq!(patience(&MetadataMap::new()), DEFAULT);
        for nonsense in ["", "S", "5", "5s", "+5S", "123456789S", "5.5S", "-1S", "5 S"] {
            assert_eq!(patience_of(nonsense), DEFAULT, "{nonsense:?}");
        }
    }

    #[test]
    fn nobody_waits_for_years() {
        assert_eq!(patience_of("99999999H"), LONGEST);
    }
}
