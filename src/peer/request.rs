//! Responses to messages of a peer other than its identity answer, as the reference responds, except that every
//! request is answered.

use bytes::Bytes;

use crate::opflex::{self, Answer, ErrorCode, Message, Method, Request};

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The identity has not been answered.
    Handshake,
    /// The identity has been answered.
    Ready,
}

/// How to respond to a message.
#[derive(Debug)]
pub(super) enum Response {
    Nothing,
    Reply(Vec<Bytes>),
    /// A protocol violation: send the reply, if any, and disconnect.
    Violation {
        reply: Option<Vec<Bytes>>,
        detail: String,
    },
}

pub(super) fn respond(message: &Message, phase: Phase) -> Response {
    match message {
        Message::Request(request) => respond_to_request(request, phase),
        Message::Answer(answer) => respond_to_answer(answer, phase),
    }
}

fn respond_to_request(request: &Request, phase: Phase) -> Response {
    use Method::{Custom, Echo, EndpointUpdate, PolicyUpdate, SendIdentity};
    match (&request.method, phase) {
        (Echo, _) => match &request.params {
            Some(params) => Response::Reply(opflex::result(&request.id, params)),
            None => unsupported(request, "echo without params"),
        },
        // The reference applies these without acknowledging them; we have no policy to apply them to.
        (PolicyUpdate | EndpointUpdate, Phase::Ready) => Response::Nothing,
        (method, Phase::Handshake) if is_opflex(method) && !matches!(method, SendIdentity | Custom) => {
            Response::Violation {
                reply: Some(opflex::error(&request.id, ErrorCode::Estate, "Identity handshake not complete")),
                detail: format!("request {method} before the handshake was complete"),
            }
        }
        _ => unsupported(request, "Unsupported request"),
    }
}

fn unsupported(request: &Request, message: &str) -> Response {
    Response::Reply(opflex::error(&request.id, ErrorCode::Eunsupported, message))
}

/// Errors are ignored. A result of a method that we never send is a violation.
fn respond_to_answer(answer: &Answer, phase: Phase) -> Response {
    let method = &answer.method;
    let expected = match phase {
        Phase::Handshake => matches!(method, Method::Echo | Method::Custom),
        Phase::Ready => !matches!(method, Method::PolicyUpdate | Method::EndpointUpdate | Method::Custom),
    };
    if answer.outcome.is_err() || expected || !is_opflex(method) {
        return Response::Nothing;
    }
    Response::Violation { reply: None, detail: format!("result for {method}, which was not requested") }
}

/// Whether this is a method of OpFlex, not of OVSDB or unknown.
const fn is_opflex(method: &Method) -> bool {
    !matches!(method, Method::Transact | Method::Monitor | Method::Update | Method::Other(_))
}

#[cfg(test)]
mod tests;
