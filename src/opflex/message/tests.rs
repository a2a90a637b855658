//! What a frame means, rule by rule, and what we write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn parse(frame: impl Into<Vec<u8>>) -> Result<Message, MessageError> {
    Message::parse(&Bytes::from(frame.into()))
}

fn request(frame: &str) -> Request {
    match parse(frame) {
        Ok(Message::Request(request)) => request,
        other => panic!("{frame}: not a request but {other:?}"),
    }
}

fn answer(frame: &str) -> Answer {
    match parse(frame) {
        Ok(Message::Answer(answer)) => answer,
        other => panic!("{frame}: not an answer but {other:?}"),
    }
}

fn remote_error(frame: &str) -> (String, String) {
    let RemoteError { code, message } = answer(frame).outcome.expect_err(frame);
    (code, message)
}

fn concat(segments: &[Bytes]) -> String {
    String::from_utf8(segments.concat()).unwrap()
}

#[test]
fn a_request_keeps_its_id_and_params_verbatim() {
    let got = request(r#" { "id" : ["echo", 7 ] , "method":"echo","params": [ 1.0e0 , "\u00e9é" ] } "#);
    assert_eq!(got.id.as_str(), r#"["echo", 7 ]"#);
    assert_eq!(got.method, Method::Echo);
    assert_eq!(got.params.unwrap().as_str(), r#"[ 1.0e0 , "\u00e9é" ]"#);
}

#[test]
fn the_id_of_a_request_may_be_anything() {
    for id in ["null", "1", r#""x""#, "[]", "{}", r#"["echo",-1]"#, "true"] {
        assert_eq!(request(&format!(r#"{{"id":{id},"method":"echo"}}"#)).id.as_str(), id);
    }
}

#[test]
fn a_frame_with_a_method_is_a_request_whatever_else_is_in_it() {
    let got = request(r#"{"id":1,"result":{},"error":{},"method":"echo"}"#);
    assert_eq!((got.method, got.params), (Method::Echo, None));
}

#[test]
fn known_methods_have_names_and_others_keep_theirs_within_bounds() {
    assert_eq!(request(r#"{"id":1,"method":"policy_update","params":[]}"#).method, Method::PolicyUpdate);
    assert_eq!(request(r#"{"id":1,"method":"\u0065cho"}"#).method, Method::Echo);
    let long = "é\\u001b[2J".repeat(40);
    let Method::Other(name) = request(&format!(r#"{{"id":1,"method":"{long}"}}"#)).method else { panic!() };
    assert!(name.len() <= 64 && name.starts_with("é [2Jé"), "{name:?}");
}

#[test]
fn an_answer_has_its_method_and_number_from_its_id() {
    let got = answer(r#"{"id":["send_identity",999],"result":{"a":[]}}"#);
    assert_eq!((got.method, got.number), (Method::SendIdentity, 999));
    assert_eq!(got.outcome.unwrap().as_str(), r#"{"a":[]}"#);
    let got = answer(r#"{"id":["nonsense",18446744073709551615],"result":null}"#);
    assert_eq!((got.method.as_str(), got.number), ("nonsense", u64::MAX));
}

#[test]
fn a_result_wins_over_an_error() {
    assert!(answer(r#"{"error":{"code":"E"},"id":["echo",1],"result":1}"#).outcome.is_ok());
}

#[test]
fn of_a_repeated_member_the_first_counts() {
    let got = request(r#"{"id":1,"id":2,"method":"echo","method":3,"params":[1],"params":[2]}"#);
    assert_eq!((got.id.as_str(), got.params.unwrap().as_str()), ("1", "[1]"));
    let twice = r#"{"id":["echo",1],"error":{"code":"A","code":"B","message":"a","message":"b"}}"#;
    assert_eq!(remote_error(twice), ("A".into(), "a".into()));
}

#[test]
fn a_remote_error_is_read_whatever_its_members_are() {
    let cases = [
        (r#"{"code":"ESTATE","message":"too early","x":1}"#, "ESTATE", "too early"),
        ("{}", "", ""),
        (r#"{"code":-32601,"message":["a"]}"#, "-32601", r#"["a"]"#),
        (r#"{"message":"\u001b[31mred\nalert"}"#, "", " [31mred alert"),
    ];
    for (error, code, message) in cases {
        let got = remote_error(&format!(r#"{{"id":["echo",1],"error":{error}}}"#));
        assert_eq!(got, (code.to_owned(), message.to_owned()), "{error}");
    }
}

#[test]
fn a_remote_error_is_cut_between_characters() {
    let text = "é".repeat(10_000);
    let (code, message) =
        remote_error(&format!(r#"{{"id":["echo",1],"error":{{"code":"x{text}","message":"x{text}"}}}}"#));
    assert_eq!((code.len(), message.len()), (63, 255));
}

#[test]
fn a_result_in_the_manner_of_ovsdb_can_be_an_error() {
    let frame = |result| format!(r#"{{"id":["transact",1],"result":{result}}}"#);
    let got = remote_error(&frame(r#"[{"error":"not owner","details":"lock lost"},{}]"#));
    assert_eq!(got, ("not owner".into(), "lock lost".into()));
    for result in [r#"[{},{"error":1}]"#, r#"["error"]"#, "[]", r#"{"error":1}"#, r#"[[{"error":1}]]"#] {
        assert!(answer(&frame(result)).outcome.is_ok(), "{result}");
    }
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let cases: &[(&str, &str)] = &[
        ("", "frame is not JSON: EOF while parsing a value at line 1 column 0"),
        ("  ", "frame is not JSON: EOF while parsing a value at line 1 column 2"),
        ("hello", "frame is not JSON: expected value at line 1 column 1"),
        (r#"{"id":1,"method":"echo"} {}"#, "frame is not JSON: trailing characters at line 1 column 26"),
        (r#"{"id":1,"method":"echo"}x"#, "frame is not JSON: trailing characters at line 1 column 25"),
        (r#"{"id":1,"method":"echo""#, "frame is not JSON: EOF while parsing an object at line 1 column 23"),
        ("{'id':1}", "frame is not JSON: key must be a string at line 1 column 2"),
        ("[]", "frame is not a JSON object"),
        ("null", "frame is not a JSON object"),
        (r#""text""#, "frame is not a JSON object"),
        ("{}", "frame is neither request nor answer: no method, no result, no error"),
        (r#"{"id":1}"#, "frame is neither request nor answer: no method, no result, no error"),
        (r#"{"id":1,"method":1}"#, "method is not a string"),
        (r#"{"id":1,"method":null,"result":1}"#, "method is not a string"),
        (r#"{"id":1,"method":"\ud800"}"#, "method is not a string"),
        (r#"{"method":"echo","params":[]}"#, "request without id"),
        (r#"{"result":1}"#, "answer without id"),
        (r#"{"error":{}}"#, "answer without id"),
        (r#"{"id":["echo",1],"error":"bad"}"#, "error of an answer is not an object"),
        (r#"{"id":["echo",1],"error":[]}"#, "error of an answer is not an object"),
        (r#"{"id":["echo",1],"error":null}"#, "error of an answer is not an object"),
    ];
    for (frame, reason) in cases {
        assert_eq!(parse(*frame).expect_err(frame).to_string(), *reason, "{frame}");
    }
}

#[test]
fn an_answer_to_an_id_that_we_never_send_is_refused() {
    let ids = [
        "null",
        "1",
        r#""echo""#,
        "{}",
        "[]",
        r#"["echo"]"#,
        r#"["echo",-1]"#,
        r#"["echo","1"]"#,
        r#"["echo",1.0]"#,
        r#"["echo",1e2]"#,
        r#"["echo",18446744073709551616]"#,
        r#"["echo",null]"#,
        "[1,1]",
        r#"["echo",1,2]"#,
    ];
    for id in ids {
        for outcome in [r#""result":{}"#, r#""error":{}"#] {
            let error = parse(format!(r#"{{"id":{id},{outcome}}}"#)).expect_err(id);
            assert_eq!(error.to_string(), "answer id is not [method, number]", "{id}");
        }
    }
}

/// The requests among the inputs that abort the reference; answers among them are tested above and beside the
/// identity. Whether they deserve a reply is not decided here, only that they are read.
#[test]
fn requests_that_abort_the_reference_are_read_like_any_other() {
    assert_eq!(request(r#"{"id":1,"method":"nonsense","params":[1]}"#).method.as_str(), "nonsense");
    assert_eq!(request(r#"{"id":1,"method":"echo"}"#).params, None);
    assert_eq!(request(r#"{"id":1,"method":"policy_update","params":{}}"#).params.unwrap().as_str(), "{}");
    assert_eq!(request(r#"{"id":1,"method":"echo","params":["é"]}"#).params.unwrap().as_str(), r#"["é"]"#);
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    let error = parse(b"{\"id\":1,\"method\":\"echo\",\"params\":[\"\xff\"]}".as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "frame is not UTF-8: invalid utf-8 sequence of 1 bytes from index 35");
}

#[test]
fn nesting_is_limited_and_counted_outside_of_strings_only() {
    let nested = |levels| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        parse(format!(r#"{{"id":1,"method":"echo","params":{open}{close}}}"#))
    };
    assert!(nested(MAX_NESTING - 1).is_ok());
    assert!(matches!(nested(MAX_NESTING), Err(MessageError::TooDeep)));
    assert!(matches!(nested(1_000_000), Err(MessageError::TooDeep)));
    let text = r#"[{\"\\\"["#.repeat(1000);
    assert!(parse(format!(r#"{{"id":1,"method":"echo","params":["{text}",[[]],"{{"]}}"#)).is_ok());
    assert!(parse(format!(r#"{{"id":1,"method":"echo","params":[{}]}}"#, "[],".repeat(1000) + "[]")).is_ok());
}

#[test]
fn a_large_frame_costs_no_more_than_itself() {
    let zeros = "0,".repeat(2 << 20);
    for (before, after) in [
        (r#"{"id":1,"method":"echo","params":["#, "0]}"),
        (r#"{"id":["echo",1],"result":["#, "0]}"),
        (r#"{"id":1,"method":"echo","unknown":["#, "0]}"),
    ] {
        let frame = Bytes::from(format!("{before}{zeros}{after}"));
        let value = match Message::parse(&frame).unwrap() {
            Message::Request(request) => request.params,
            Message::Answer(answer) => answer.outcome.ok(),
        };
        if let Some(value) = value {
            let range = frame.as_ptr_range();
            assert!(range.contains(&value.0.as_ptr()), "a copy was made");
            assert!(format!("{value:?}").len() < 256);
        }
    }
}

#[test]
fn an_answer_shares_the_memory_of_what_it_answers() {
    let frame = Bytes::from(r#"{"id":[ "echo", 7 ],"method":"echo","params":[ 964427 ]}"#);
    let Message::Request(request) = Message::parse(&frame).unwrap() else { panic!() };
    let segments = result(&request.id, &request.params.unwrap());
    assert_eq!(concat(&segments), "{\"id\":[ \"echo\", 7 ],\"result\":[ 964427 ]}\0");
    assert!(frame.as_ptr_range().contains(&segments[3].as_ptr()));
}

#[test]
fn a_refusal_has_code_and_message_and_is_json_whatever_the_message() {
    let id = Raw::new(r#"["x",1]"#).unwrap();
    let frame = concat(&error(&id, ErrorCode::Eunsupported, "Unsupported \"request\"\0\u{1b}é"));
    assert_eq!(
        frame,
        "{\"id\":[\"x\",1],\"error\":{\"code\":\"EUNSUPPORTED\",\"message\":\"Unsupported \\\"request\\\"\\u0000\\u001bé\"}}\0"
    );
    assert!(concat(&error(&id, ErrorCode::Error, "")).contains(r#""code":"ERROR""#));
    assert!(concat(&error(&id, ErrorCode::Estate, "")).contains(r#""code":"ESTATE""#));
}

#[test]
fn text_in_an_identity_is_escaped() {
    let identity = Identity { location: Some("\u{0}\n".into()), ..Identity::new("a\"b\\", "é\0") };
    let frame = send_identity(1, &identity);
    assert_eq!(frame.iter().filter(|byte| **byte == 0).count(), 1, "a NUL ends the frame and nothing else");
    let params = request(std::str::from_utf8(&frame[..frame.len() - 1]).unwrap()).params.unwrap();
    let params: serde_json::Value = serde_json::from_str(params.as_str()).unwrap();
    assert_eq!(params[0]["name"], "a\"b\\");
    assert_eq!(params[0]["domain"], "é\0");
    assert_eq!(params[0]["my_location"], "\0\n");
}

/// Text with the parts that matter to the parser, in any order.
fn jsonish() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\"id\":",
            "\"method\":",
            "\"result\":",
            "\"error\":",
            "\"params\":",
            "\"echo\"",
            "[\"echo\",1]",
            "{\"code\":\"E\"}",
            "null",
            "-1",
            "1e999",
            "\\u00",
            "\\ud800",
            "{\"id\":1,\"method\":\"echo\"}",
            " ",
            "\u{feff}",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    proptest::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(frame in any::<Vec<u8>>()) {
        let _ = parse(frame);
    }

    #[test]
    fn no_text_panics_and_errors_stay_short(frame in jsonish()) {
        if let Err(error) = parse(frame) {
            prop_assert!(error.to_string().len() < 200);
        }
    }

    #[test]
    fn whatever_is_parsed_is_a_slice_of_the_frame_that_parses_again(
        id in jsonish(), params in jsonish(),
    ) {
        if let Ok(Message::Request(request)) = parse(format!(r#"{{"id":{id},"method":"echo","params":{params}}}"#)) {
            prop_assert_eq!(Raw::new(request.id.as_str().to_owned()).unwrap(), request.id);
        }
    }
}
