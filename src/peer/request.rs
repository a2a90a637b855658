//! What we say to what a peer says, apart from its answer to our identity. Follows the table in section 2 of
//! the reference's description, except that nothing goes unanswered that can be answered.

use bytes::Bytes;

use crate::opflex::{self, Answer, ErrorCode, Message, Method, Request};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Our identity has not been answered.
    Handshake,
    /// It has.
    Ready,
}

/// What to do about a message.
#[derive(Debug)]
pub(super) enum Response {
    /// Nothing.
    Nothing,
    /// Answer it.
    Reply(Vec<Bytes>),
    /// The peer must not send this: perhaps say so, and hang up.
    Violation {
        /// What to say first.
        reply: Option<Vec<Bytes>>,
        /// For people.
        detail: String,
    },
}

/// Decides about a message that is not an answer to `send_identity`.
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
        // The reference applies these and never acknowledges them. There is no policy here to apply them to.
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

/// An error to something we may have asked is taken note of by nobody. A result to something we can't have
/// asked is a peer out of step.
fn respond_to_answer(answer: &Answer, phase: Phase) -> Response {
    let method = &answer.method;
    let expected = match phase {
        Phase::Handshake => matches!(method, Method::Echo | Method::Custom),
        Phase::Ready => !matches!(method, Method::PolicyUpdate | Method::EndpointUpdate | Method::Custom),
    };
    if answer.outcome.is_err() || expected || !is_opflex(method) {
        return Response::Nothing;
    }
    Response::Violation { reply: None, detail: format!("result for {method}, which was not asked") }
}

/// Whether OpFlex has this method: the rest are other protocols' or nobody's.
const fn is_opflex(method: &Method) -> bool {
    !matches!(method, Method::Transact | Method::Monitor | Method::Update | Method::Other(_))
}

#[cfg(test)]
mod tests;
