//! Requests and answers: decoded from frames, encoded into frames.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{error::Category, value::RawValue};
use thiserror::Error;

use self::MessageError::Invalid;
use super::{
    identity::Identity,
    json,
    method::Method,
    text::{clip, printable},
};

/// Limit on the nesting of arrays and objects. OpFlex needs about ten levels; the reference has no limit but its stack.
pub const MAX_NESTING: usize = 64;

/// Longest error code kept, in bytes: known codes are single words.
const CODE_LIMIT: usize = 64;
/// Longest error message kept, in bytes: a sentence or two.
const REASON_LIMIT: usize = 256;
/// Longest excerpt of a value in its `Debug` output, in bytes.
const DEBUG_LIMIT: usize = 200;

/// One JSON value: the verbatim text in its frame, whose memory it shares.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(Bytes);

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request of the remote side.
    Request(Request),
    /// An answer, solicited or not.
    Answer(Answer),
}

/// A request, to be answered with [`result`] or [`error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Any JSON value; an answer repeats it verbatim.
    pub id: Raw,
    /// The requested method.
    pub method: Method,
    /// Parameters; OpFlex methods expect an array.
    pub params: Option<Raw>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The method of the request: the first element of the id.
    pub method: Method,
    /// The number of the request: the second element of the id.
    pub number: u64,
    /// The result or the error.
    pub outcome: Result<Raw, RemoteError>,
}

/// An error sent by the remote side, made printable and clipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// For example `ESTATE`; at most 64 bytes, may be empty.
    pub code: String,
    /// Human-readable; at most 256 bytes, may be empty.
    pub message: String,
}

/// A frame that is not a valid message.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Not UTF-8.
    #[error("frame is not UTF-8: {0}")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Nested deeper than [`MAX_NESTING`].
    #[error("frame is nested deeper than {MAX_NESTING} levels")]
    TooDeep,
    /// Not exactly one JSON value.
    #[error("frame is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// Valid JSON that is neither a request nor an answer, and why.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Error codes that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ErrorCode {
    /// The request is malformed.
    Error,
    /// The method is not supported.
    Eunsupported,
    /// Not allowed before the handshake.
    Estate,
}

impl Raw {
    /// Checks JSON text.
    ///
    /// # Errors
    /// Not UTF-8, not exactly one JSON value, or nested too deep.
    pub fn new(json: impl Into<Bytes>) -> Result<Self, MessageError> {
        let json = json.into();
        let text = checked_text(&json)?;
        let value: &RawValue = serde_json::from_str(text).map_err(MessageError::NotJson)?;
        Ok(Self::slice(&json, value))
    }

    /// Serializes a value.
    #[must_use]
    pub fn encode(value: &impl Serialize) -> Self {
        Self(encode(value).into())
    }

    /// The text of the value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Never empty: it is a slice of a `str`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// `value` as the slice of `frame` that it was parsed from.
    fn slice(frame: &Bytes, value: &RawValue) -> Self {
        Self(frame.slice_ref(value.get().as_bytes()))
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(clip(self.as_str(), DEBUG_LIMIT))
    }
}

impl Message {
    /// Decodes a frame. With `method` it is a request, even if it has a `result`; `result` takes precedence over
    /// `error`. Of a repeated member the first counts.
    ///
    /// # Errors
    /// The frame is neither request nor answer. Unknown methods and unsolicited answers are not errors.
    pub fn parse(frame: &Bytes) -> Result<Self, MessageError> {
        let text = checked_text(frame)?;
        let [id, method, params, result, error] =
            json::members(text, ["id", "method", "params", "result", "error"]).map_err(
                |error| match error.classify() {
                    Category::Data => Invalid("frame is not a JSON object"),
                    _ => MessageError::NotJson(error),
                },
            )?;
        let slice = |value| Raw::slice(frame, value);
        if let Some(method) = method {
            let method = json::text(method).ok_or(Invalid("method is not a string"))?;
            let id = id.ok_or(Invalid("request without id"))?;
            let method = Method::from_name(&method);
            return Ok(Self::Request(Request { id: slice(id), method, params: params.map(slice) }));
        }
        let outcome = match (result, error) {
            (Some(result), _) => RemoteError::from_result(result).map_or_else(|| Ok(slice(result)), Err),
            (None, Some(error)) => Err(RemoteError::parse(error)?),
            (None, None) => {
                return Err(Invalid("frame is neither request nor answer: no method, no result, no error"));
            }
        };
        let id = id.ok_or(Invalid("answer without id"))?;
        let (method, number) = parse_answer_id(id).ok_or(Invalid("answer id is not [method, number]"))?;
        Ok(Self::Answer(Answer { method, number, outcome }))
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.message.trim()) {
            ("", "") => f.write_str("an error without code and message"),
            ("", message) => write!(f, "an error without code: {message}"),
            (code, "") => write!(f, "{code} and no message"),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

impl RemoteError {
    fn parse(error: &RawValue) -> Result<Self, MessageError> {
        let [code, message] = json::members(error.get(), ["code", "message"])
            .map_err(|_| Invalid("error of an answer is not an object"))?;
        Ok(Self::new(code, message))
    }

    /// OVSDB, which shares the parser of OpFlex in the reference, reports errors as results: an array whose first
    /// element is an object with `error`.
    fn from_result(result: &RawValue) -> Option<Self> {
        let first = json::elements(result.get(), 1).ok()?.pop()?;
        let [error, details] = json::members(first.get(), ["error", "details"]).ok()?;
        error.map(|_| Self::new(error, details))
    }

    fn new(code: Option<&RawValue>, message: Option<&RawValue>) -> Self {
        // Values other than strings, such as numeric codes, are kept as JSON.
        let text = |value: Option<&RawValue>, limit| {
            value.map_or_else(String::new, |value| {
                printable(&json::text(value).unwrap_or(Cow::Borrowed(value.get())), limit)
            })
        };
        Self { code: text(code, CODE_LIMIT), message: text(message, REASON_LIMIT) }
    }
}

fn parse_answer_id(id: &RawValue) -> Option<(Method, u64)> {
    let (method, number): (&RawValue, u64) = serde_json::from_str(id.get()).ok()?;
    Some((Method::from_name(&json::text(method)?), number))
}

fn checked_text(frame: &Bytes) -> Result<&str, MessageError> {
    let text = std::str::from_utf8(frame).map_err(MessageError::NotUtf8)?;
    if json::deeper_than(MAX_NESTING, text) { Err(MessageError::TooDeep) } else { Ok(text) }
}

/// The keepalive request: `number` counts the echoes from 0, `millis` is the sender's clock.
#[must_use]
pub fn echo(number: u64, millis: u64) -> Bytes {
    request("echo", number, [millis])
}

/// The handshake request: `number` counts the requests other than echoes from 1.
#[must_use]
pub fn send_identity(number: u64, identity: &Identity) -> Bytes {
    request("send_identity", number, [identity.params()])
}

/// The answer to the request `id`, as segments to write in order. They share the memory of `id` and `result`, so
/// answering a large echo copies nothing.
#[must_use]
pub fn result(id: &Raw, result: &Raw) -> Vec<Bytes> {
    answer(id, b",\"result\":", result.clone())
}

/// The error answer to the request `id`, as segments like those of [`result`].
#[must_use]
pub fn error(id: &Raw, code: ErrorCode, message: &str) -> Vec<Bytes> {
    #[derive(Serialize)]
    struct Error<'a> {
        code: ErrorCode,
        message: &'a str,
    }

    answer(id, b",\"error\":", Raw::encode(&Error { code, message }))
}

fn answer(id: &Raw, member: &'static [u8], value: Raw) -> Vec<Bytes> {
    let text = Bytes::from_static;
    vec![text(b"{\"id\":"), id.0.clone(), text(member), value.0, text(b"}\0")]
}

fn request(method: &str, number: u64, params: impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Request<'a, P> {
        id: (&'a str, u64),
        method: &'a str,
        params: P,
    }

    let mut frame = encode(&Request { id: (method, number), method, params });
    frame.push(0);
    frame.into()
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Serializing text and numbers cannot fail; an empty frame would be legal.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
