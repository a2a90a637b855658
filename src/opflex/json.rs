//! Reading single values out of JSON text, in place.
//!
//! Every value stays the slice it is ([`RawValue`]) until someone needs it as text or number, so the cost of a
//! document is its own length, whatever is in it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Error, value::RawValue};

/// The longest string with escapes that is read, in bytes of JSON. Nothing that we look at comes near it, and to
/// resolve the escapes of a frame full of them would take as much memory as the frame once more.
const ESCAPED_LIMIT: usize = 8 * 1024;

/// The values of the members `names` of the object `json`; of a repeated name the first, as the reference does.
///
/// # Errors
///
/// Not JSON, or (an error of the category `Data`) not an object.
pub(super) fn members<'de, const N: usize>(
    json: &'de str,
    names: [&str; N],
) -> Result<[Option<&'de RawValue>; N], Error> {
    let mut parser = serde_json::Deserializer::from_str(json);
    let found = parser.deserialize_map(Members(&names))?;
    parser.end()?;
    Ok(found)
}

/// Calls `visit` with index and value of each element of the array `json`, until it fails.
///
/// # Errors
///
/// The outer one: not an array. The inner one: what `visit` said.
pub(super) fn each_element<'de, E>(
    json: &'de str,
    visit: impl FnMut(usize, &'de RawValue) -> Result<(), E>,
) -> Result<Result<(), E>, Error> {
    serde_json::Deserializer::from_str(json).deserialize_seq(Elements(visit))
}

/// The text of a JSON string, or `None` for any other value, for escapes that are no text, and for a string with
/// escapes that is longer than [`ESCAPED_LIMIT`]. One without escapes is not copied.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    let quoted = json.strip_prefix('"')?.strip_suffix('"')?;
    if !quoted.contains('\\') {
        return Some(Cow::Borrowed(quoted));
    }
    if json.len() > ESCAPED_LIMIT { None } else { serde_json::from_str(json).ok().map(Cow::Owned) }
}

/// True if arrays and objects lie deeper within each other than `limit` levels.
///
/// A scan, not a parser: it has no stack to overflow, and what is not JSON is left for the parser to refuse.
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
        while let Some(position) = map.next_key_seed(Position(self.0))? {
            match position.and_then(|position| found.get_mut(position)) {
                Some(slot @ None) => *slot = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Which of the names a key is, without keeping the key.
struct Position<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        let key = text(Deserialize::deserialize(key)?);
        Ok(key.and_then(|key| self.0.iter().position(|name| *name == key)))
    }
}

struct Elements<F>(F);

impl<'de, E, F: FnMut(usize, &'de RawValue) -> Result<(), E>> Visitor<'de> for Elements<F> {
    type Value = Result<(), E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut index = 0_usize;
        while let Some(element) = elements.next_element()? {
            if let Err(error) = (self.0)(index, element) {
                // The parser wants to see the end of the array.
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Err(error));
            }
            index += 1;
        }
        Ok(Ok(()))
    }
}
