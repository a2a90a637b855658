//! What arrives at a policy element, and what comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use super::*;

const SERVED_BY_OTHERS: [&str; 9] = [
    "policy_resolve",
    "policy_unresolve",
    "endpoint_declare",
    "endpoint_undeclare",
    "endpoint_resolve",
    "endpoint_unresolve",
    "state_report",
    "policy_update",
    "endpoint_update",
];
const OVSDB_OR_NOBODYS: [&str; 5] = ["transact", "monitor", "update", "tell_me", ""];

/// What follows from a frame, in short words.
fn respond_to(frame: &str, phase: Phase) -> String {
    let text = |parts: Vec<Bytes>| String::from_utf8(parts.concat()).unwrap().replace('\0', "");
    let message = Message::parse(&Bytes::copy_from_slice(frame.as_bytes())).unwrap();
    match respond(&message, phase) {
        Response::Nothing => "nothing".into(),
        Response::Reply(parts) => text(parts),
        Response::Violation { reply: None, detail } => format!("hang up: {detail}"),
        Response::Violation { reply: Some(parts), detail } => {
            format!("{} and hang up: {detail}", text(parts))
        }
    }
}

fn request(method: &str) -> String {
    format!(r#"{{"id":["{method}",3],"method":"{method}","params":[]}}"#)
}

fn result(method: &str) -> String {
    format!(r#"{{"id":["{method}",3],"result":{{}}}}"#)
}

fn error(method: &str) -> String {
    format!(r#"{{"id":["{method}",3],"error":{{"code":"ERROR","message":"no"}}}}"#)
}

fn unsupported(method: &str) -> String {
    format!(r#"{{"id":["{method}",3],"error":{{"code":"EUNSUPPORTED","message":"Unsupported request"}}}}"#)
}

#[test]
fn an_echo_is_answered_with_its_params_verbatim_at_any_time() {
    for params in ["[1]", "[ 1.50 , \"\\u00e4\" ]", "{}", "null", "\"ä\"", "[[[]]]"] {
        for phase in [Phase::Handshake, Phase::Ready] {
            let frame = format!(r#"{{"method":"echo","params":{params},"id":["echo",3]}}"#);
            assert_eq!(respond_to(&frame, phase), format!(r#"{{"id":["echo",3],"result":{params}}}"#));
        }
    }
}

#[test]
fn an_answer_repeats_the_id_verbatim_whatever_it_is() {
    for id in ["null", "7", "-7.50e3", "\"x\"", "{ \"a\": 1 }", "[]", "[\"echo\", 1, 2]"] {
        let frame = format!(r#"{{"id":{id},"method":"echo","params":[]}}"#);
        assert_eq!(respond_to(&frame, Phase::Ready), format!(r#"{{"id":{id},"result":[]}}"#));
        let frame = format!(r#"{{"id":{id},"method":"custom"}}"#);
        assert!(respond_to(&frame, Phase::Ready).starts_with(&format!(r#"{{"id":{id},"error":"#)));
    }
}

#[test]
fn an_echo_without_params_is_refused_and_the_connection_kept() {
    let refusal = r#"{"id":["echo",3],"error":{"code":"EUNSUPPORTED","message":"echo without params"}}"#;
    for phase in [Phase::Handshake, Phase::Ready] {
        assert_eq!(respond_to(r#"{"id":["echo",3],"method":"echo"}"#, phase), refusal);
    }
}

#[test]
fn a_request_before_the_handshake_is_complete_gets_estate_and_the_connection_ends() {
    for method in SERVED_BY_OTHERS {
        let expected = format!(
            r#"{{"id":["{method}",3],"error":{{"code":"ESTATE","message":"Identity handshake not complete"}}}} and hang up: request {method} before the handshake was complete"#
        );
        assert_eq!(respond_to(&request(method), Phase::Handshake), expected);
    }
}

#[test]
fn updates_are_taken_without_a_word_once_ready() {
    for method in ["policy_update", "endpoint_update"] {
        assert_eq!(respond_to(&request(method), Phase::Ready), "nothing");
        // The reference aborts on params that are no array.
        assert_eq!(respond_to(&request(method).replace("[]", "7"), Phase::Ready), "nothing");
    }
}

#[test]
fn a_request_that_a_policy_element_does_not_serve_is_refused_and_the_connection_kept() {
    for method in SERVED_BY_OTHERS.iter().filter(|method| !method.ends_with("_update")) {
        assert_eq!(respond_to(&request(method), Phase::Ready), unsupported(method));
    }
    for method in ["send_identity", "custom"] {
        for phase in [Phase::Handshake, Phase::Ready] {
            assert_eq!(respond_to(&request(method), phase), unsupported(method));
        }
    }
}

#[test]
fn a_request_that_opflex_does_not_know_is_refused_where_the_reference_is_silent_or_aborts() {
    for method in OVSDB_OR_NOBODYS {
        for phase in [Phase::Handshake, Phase::Ready] {
            assert_eq!(respond_to(&request(method), phase), unsupported(method));
        }
    }
}

#[test]
fn a_result_before_the_handshake_is_complete_ends_the_connection_unless_it_is_an_echos() {
    for method in SERVED_BY_OTHERS {
        let expected = format!("hang up: result for {method}, which was not requested");
        assert_eq!(respond_to(&result(method), Phase::Handshake), expected);
    }
    for method in ["echo", "custom"] {
        assert_eq!(respond_to(&result(method), Phase::Handshake), "nothing");
    }
}

#[test]
fn a_result_for_a_method_that_a_policy_element_never_calls_ends_the_connection() {
    for method in ["policy_update", "endpoint_update", "custom"] {
        let expected = format!("hang up: result for {method}, which was not requested");
        assert_eq!(respond_to(&result(method), Phase::Ready), expected);
    }
}

#[test]
fn a_result_for_a_method_that_it_might_call_is_nothing_to_it() {
    let might = SERVED_BY_OTHERS.iter().filter(|method| !method.ends_with("_update"));
    for method in might.chain(&["echo"]) {
        assert_eq!(respond_to(&result(method), Phase::Ready), "nothing");
    }
}

#[test]
fn an_answer_for_an_unknown_method_and_any_error_is_nothing() {
    for phase in [Phase::Handshake, Phase::Ready] {
        for method in OVSDB_OR_NOBODYS {
            assert_eq!(respond_to(&result(method), phase), "nothing");
        }
        for method in SERVED_BY_OTHERS.iter().chain(&OVSDB_OR_NOBODYS).chain(&["echo", "custom"]) {
            assert_eq!(respond_to(&error(method), phase), "nothing");
        }
    }
}
