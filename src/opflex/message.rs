//! Requests and answers: reading them from frames, writing them into frames. Owns nothing.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{error::Category, value::RawValue};
use thiserror::Error;

use super::{
    identity::Identity,
    json,
    method::Method,
    text::{clip, printable},
};

/// Arrays and objects may lie this deep within each other. OpFlex needs about ten levels; the reference has no
/// limit but its stack.
pub const MAX_NESTING: usize = 64;

/// Codes in use are single words.
const CODE_LIMIT: usize = 64;
/// A sentence or two: enough for a person to act on.
const REASON_LIMIT: usize = 256;
/// How much of a value its `Debug` shows, in bytes.
const DEBUG_LIMIT: usize = 200;

/// One JSON value, as the verbatim text in its frame, whose memory it shares.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(Bytes);

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The other side wants something.
    Request(Request),
    /// The other side answers something, asked for or not.
    Answer(Answer),
}

/// A request, to be answered with [`result`] or [`error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Any JSON value; an answer repeats it verbatim.
    pub id: Raw,
    /// What is asked for.
    pub method: Method,
    /// With what; OpFlex methods expect an array.
    pub params: Option<Raw>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The method that was asked for, from the first element of the id.
    pub method: Method,
    /// The second element of the id: which request of that method.
    pub number: u64,
    /// What came of it.
    pub outcome: Result<Raw, RemoteError>,
}

/// What the other side says went wrong. Printable, and bounded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct RemoteError {
    /// For example `ESTATE`; at most 64 bytes, empty if there is none.
    pub code: String,
    /// For people; at most 256 bytes, empty if there is none.
    pub message: String,
}

/// A frame that is no message. The other side has lost its way, and the connection its meaning.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Bytes that are no text.
    #[error("frame is not UTF-8: {0}")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Arrays or objects deeper within each other than [`MAX_NESTING`].
    #[error("frame is nested deeper than {MAX_NESTING} levels")]
    TooDeep,
    /// Text that is not one JSON value.
    #[error("frame is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// A JSON value other than an object.
    #[error("frame is not a JSON object")]
    NotAnObject,
    /// `method` is there, and not a string.
    #[error("method is not a string")]
    MethodNotString,
    /// A request that could not be answered.
    #[error("request without id")]
    RequestWithoutId,
    /// Neither `method` nor `result` nor `error`.
    #[error("frame is neither request nor answer: no method, no result, no error")]
    NoKind,
    /// An answer to nothing.
    #[error("answer without id")]
    AnswerWithoutId,
    /// The id of an answer is not one that we could have sent.
    #[error("answer id is not [method, number]")]
    BadAnswerId,
    /// `error` is there, and not an object.
    #[error("error of an answer is not an object")]
    ErrorNotObject,
}

/// The codes of the errors that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ErrorCode {
    /// The request is malformed.
    Error,
    /// The request is not one that we serve.
    Eunsupported,
    /// Not before the handshake.
    Estate,
}

impl Raw {
    /// Takes JSON text as a value.
    ///
    /// # Errors
    ///
    /// It is not UTF-8, not one JSON value, or nested too deep.
    pub fn new(json: impl Into<Bytes>) -> Result<Self, MessageError> {
        let json = json.into();
        let text = checked_text(&json)?;
        let value: &RawValue = serde_json::from_str(text).map_err(MessageError::NotJson)?;
        Ok(Self::slice(&json, value))
    }

    /// A value of our own making.
    #[must_use]
    pub fn encode(value: &impl Serialize) -> Self {
        Self(encode(value).into())
    }

    /// The text of the value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always text: it was cut out of a `str`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// `value` as the part of `frame` that it was parsed from.
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
        let text = self.as_str();
        let shown = clip(text, DEBUG_LIMIT);
        f.write_str(shown)?;
        if shown.len() < text.len() { write!(f, "… ({} bytes)", text.len()) } else { Ok(()) }
    }
}

impl Message {
    /// Reads a frame.
    ///
    /// With `method` it is a request, even beside a `result`; otherwise `result` wins over `error`. Of a member
    /// that is repeated, the first counts.
    ///
    /// # Errors
    ///
    /// A [`MessageError`] if the frame is neither request nor answer. A request for something unknown and an
    /// answer to something never asked are messages: what to do about them is not for the wire to say.
    pub fn parse(frame: &Bytes) -> Result<Self, MessageError> {
        let text = checked_text(frame)?;
        let [id, method, params, result, error] =
            json::members(text, ["id", "method", "params", "result", "error"]).map_err(envelope_error)?;
        let slice = |value| Raw::slice(frame, value);
        if let Some(method) = method {
            let method = json::text(method).ok_or(MessageError::MethodNotString)?;
            let id = id.ok_or(MessageError::RequestWithoutId)?;
            let method = Method::from_word(&method);
            return Ok(Self::Request(Request { id: slice(id), method, params: params.map(slice) }));
        }
        let outcome = match (result, error) {
            (Some(result), _) => RemoteError::from_ovsdb(result).map_or_else(|| Ok(slice(result)), Err),
            (None, Some(error)) => Err(RemoteError::parse(error)?),
            (None, None) => return Err(MessageError::NoKind),
        };
        let id = id.ok_or(MessageError::AnswerWithoutId)?;
        let (method, number) = parse_answer_id(id).ok_or(MessageError::BadAnswerId)?;
        Ok(Self::Answer(Answer { method, number, outcome }))
    }
}

impl RemoteError {
    fn parse(error: &RawValue) -> Result<Self, MessageError> {
        let [code, message] =
            json::members(error.get(), ["code", "message"]).map_err(|_| MessageError::ErrorNotObject)?;
        Ok(Self::new(code, message))
    }

    /// OVSDB, which shares the parser of OpFlex, reports errors as results: a list whose first element is an
    /// object with an `error`.
    fn from_ovsdb(result: &RawValue) -> Option<Self> {
        let mut found = None;
        // The "error" is a way to look no further than the first element.
        let _ = json::each_element(result.get(), |_, first| {
            if let Ok([Some(error), details]) = json::members(first.get(), ["error", "details"]) {
                found = Some(Self::new(Some(error), details));
            }
            Err(())
        });
        found
    }

    fn new(code: Option<&RawValue>, message: Option<&RawValue>) -> Self {
        // Senders that put a number where a text belongs are still understood.
        let text = |value: Option<&RawValue>, limit| {
            value.map_or_else(String::new, |value| {
                printable(&json::text(value).unwrap_or(Cow::Borrowed(value.get())), limit)
            })
        };
        Self { code: text(code, CODE_LIMIT), message: text(message, REASON_LIMIT) }
    }
}

/// The method and the number of `[method, number]`.
fn parse_answer_id(id: &RawValue) -> Option<(Method, u64)> {
    let (method, number): (&RawValue, u64) = serde_json::from_str(id.get()).ok()?;
    Some((Method::from_word(&json::text(method)?), number))
}

/// The frame's text, if it is text and not too deep for a parser.
fn checked_text(frame: &Bytes) -> Result<&str, MessageError> {
    let text = std::str::from_utf8(frame).map_err(MessageError::NotUtf8)?;
    if json::deeper_than(MAX_NESTING, text) { Err(MessageError::TooDeep) } else { Ok(text) }
}

fn envelope_error(error: serde_json::Error) -> MessageError {
    match error.classify() {
        Category::Data => MessageError::NotAnObject,
        _ => MessageError::NotJson(error),
    }
}

/// The keepalive request: `number` counts a connection's echoes from 0, `millis` is the sender's clock.
#[must_use]
pub fn echo(number: u64, millis: u64) -> Bytes {
    request("echo", number, [millis])
}

/// The handshake request: `number` counts a peer's requests other than echoes, from 1.
#[must_use]
pub fn send_identity(number: u64, identity: &Identity) -> Bytes {
    request("send_identity", number, [identity.params()])
}

/// The answer to the request `id`, in segments to be written one after the other. They share the memory of
/// `id` and `result`, so that to answer an echo of any size costs nothing.
#[must_use]
pub fn result(id: &Raw, result: &Raw) -> Vec<Bytes> {
    vec![
        Bytes::from_static(b"{\"id\":"),
        id.0.clone(),
        Bytes::from_static(b",\"result\":"),
        result.0.clone(),
        Bytes::from_static(b"}\0"),
    ]
}

/// The refusal of the request `id`, in segments like those of [`result`].
#[must_use]
pub fn error(id: &Raw, code: ErrorCode, message: &str) -> Vec<Bytes> {
    #[derive(Serialize)]
    struct Refusal<'a> {
        code: ErrorCode,
        message: &'a str,
    }

    let refusal = encode(&Refusal { code, message });
    vec![
        Bytes::from_static(b"{\"id\":"),
        id.0.clone(),
        Bytes::from_static(b",\"error\":"),
        refusal.into(),
        Bytes::from_static(b"}\0"),
    ]
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
    // Text and numbers into memory: this does not fail. If it did, the frame would be empty, which is legal.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
