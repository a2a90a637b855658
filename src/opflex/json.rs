//! Reads single values out of JSON text in place. A value stays a slice ([`RawValue`]), so memory does not depend on
//! the number of values in a document.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Error, value::RawValue};

/// Longest string with escapes that is read, in bytes of JSON: unescaping copies, and no string that we need is near
/// that long.
const ESCAPED_LIMIT: usize = 8 * 1024;

/// The values of the members `names` of the object `json`. Of a repeated name the first counts, as in the reference.
/// If `json` is not an object, the error has the category `Data`.
pub(super) fn members<'de, const N: usize>(
    json: &'de str,
    names: [&str; N],
) -> Result<[Option<&'de RawValue>; N], Error> {
    let mut parser = serde_json::Deserializer::from_str(json);
    let found = parser.deserialize_map(Members(&names))?;
    parser.end()?;
    Ok(found)
}

/// The first `limit` elements of the array `json`.
pub(super) fn elements(json: &str, limit: usize) -> Result<Vec<&RawValue>, Error> {
    serde_json::Deserializer::from_str(json).deserialize_seq(Elements { limit })
}

/// The text of a JSON string. `None` for any other value, for invalid escapes, and for a string with escapes that is
/// longer than [`ESCAPED_LIMIT`].
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    let quoted = json.strip_prefix('"')?.strip_suffix('"')?;
    if !quoted.contains('\\') {
        return Some(Cow::Borrowed(quoted));
    }
    if json.len() > ESCAPED_LIMIT { None } else { serde_json::from_str(json).ok().map(Cow::Owned) }
}

/// Whether arrays and objects are nested deeper than `limit` levels. Invalid JSON is left for the parser to reject.
pub(super) fn deeper_than(limit: usize, json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' if depth == limit => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

struct Members<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(key) = map.next_key()? {
            let position = text(key).and_then(|key| self.0.iter().position(|name| *name == key));
            match position.and_then(|position| found.get_mut(position)) {
                Some(slot @ None) => *slot = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

struct Elements {
    limit: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while found.len() < self.limit
            && let Some(element) = elements.next_element()?
        {
            found.push(element);
        }
        // The parser requires that the array is read to its end.
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}
