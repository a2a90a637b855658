//! Whatever a frame holds, it is read without a panic, what is kept of it is bounded, and what we answer is one frame.

use bytes::Bytes;
use opflex_peerstatus::{
    opflex::{
        self, Answer, ErrorCode, Identity, IdentityAnswer, MAX_NESTING, MAX_PEERS, Message, MessageError,
        Method, Raw, Request,
    },
    peer::PeerAddress,
};

/// The input is the frame.
pub(crate) fn run(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let deep = nesting(data) > MAX_NESTING;
    let message = match Message::parse(&frame) {
        Ok(message) => message,
        Err(MessageError::TooDeep) => return assert!(deep, "refused for a depth that it has not"),
        Err(error) => return assert!(error.to_string().len() < 512, "{error}"),
    };
    assert!(!deep, "read though too deep");
    match message {
        Message::Request(request) => requested(&request),
        Message::Answer(answer) => answered(&answer),
    }
}

/// How deep arrays and objects lie within each other.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut bytes) = (0_usize, 0, json.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| **byte != b'"') {
                    if *byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn requested(request: &Request) {
    assert_bounded(&request.method);
    let echoed = request.params.as_ref().unwrap_or(&request.id);
    let result = one_frame(&opflex::result(&request.id, echoed));
    assert_eq!(result, format!("{{\"id\":{},\"result\":{echoed}}}", request.id), "it is repeated verbatim");
    for code in [ErrorCode::Error, ErrorCode::Eunsupported, ErrorCode::Estate] {
        let error = one_frame(&opflex::error(&request.id, code, request.method.as_str()));
        // Whose id is like ours would read our answer as we do.
        if let Ok(message) = Message::parse(&error.into()) {
            assert!(matches!(message, Message::Answer(Answer { outcome: Err(_), .. })), "{message:?}");
        }
    }
}

fn answered(answer: &Answer) {
    assert_bounded(&answer.method);
    match &answer.outcome {
        Err(error) => {
            assert!(error.code.len() <= 64 && error.message.len() <= 256, "{error:?}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
        Ok(result) => match IdentityAnswer::parse(result) {
            Ok(answer) => identified(answer),
            Err(error) => assert!(error.to_string().len() < 1024, "{error}"),
        },
    }
}

fn identified(answer: IdentityAnswer) {
    assert!(answer.peers.len() <= MAX_PEERS);
    for peer in &answer.peers {
        assert!(!peer.host.is_empty() && peer.port != 0, "{peer:?}");
        match PeerAddress::new(&peer.host, peer.port) {
            Ok(address) => {
                assert_eq!(address.to_string().parse(), Ok(address), "an address can be read again")
            }
            Err(error) => assert!(error.to_string().len() < 1024, "{error}"),
        }
    }
    assert!(answer.location.as_ref().is_none_or(|location| location.len() <= 1024));
    // It is repeated to other peers.
    let identity = Identity { location: answer.location, ..Identity::new("n", "d") };
    let sent = one_frame(&[opflex::send_identity(1, &identity)]);
    let read = Message::parse(&sent.into()).expect("we understand ourselves");
    assert!(matches!(read, Message::Request(Request { method: Method::SendIdentity, .. })));
}

fn assert_bounded(method: &Method) {
    let word = method.as_str();
    assert!(word.len() <= 64 && !word.contains(char::is_control), "{word:?}");
}

/// The frame in these parts, without its NUL: JSON, and no second NUL.
fn one_frame(parts: &[Bytes]) -> String {
    let mut bytes = parts.concat();
    assert_eq!(bytes.pop(), Some(0), "a frame ends with a NUL");
    assert!(!bytes.contains(&0), "a frame has one NUL");
    Raw::new(bytes).expect("a frame is JSON").to_string()
}
