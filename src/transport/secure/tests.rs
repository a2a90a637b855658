//! Frames over TLS, in memory, where time is virtual and a standstill can be seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::*;
use crate::{
    tls::{ClientSettings, PeerTlsMode},
    transport::{Connection, ConnectionEvent, tests::identifying},
};

/// Longer than anything here takes in virtual time: when it is over, nothing moves any more.
const FOREVER: Duration = Duration::from_secs(3600);

fn client() -> ClientTls {
    let settings = ClientSettings { mode: PeerTlsMode::Encrypted, ..ClientSettings::default() };
    ClientTls::load(settings).unwrap()
}

fn acceptor() -> TlsAcceptor {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["leaf".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A connection over TLS, and the peer's end.
async fn connected() -> (Connection, TlsStream<DuplexStream>) {
    let (ours, theirs) = duplex(4096);
    let (tls, acceptor) = (client(), acceptor());
    let (ours, theirs) = tokio::join!(secure(Box::new(ours), &tls), acceptor.accept(theirs));
    (identifying(ours.unwrap(), 1 << 20), theirs.unwrap())
}

/// Answers every frame with itself until the end, and says how that came.
async fn echo(mut connection: Connection) -> ConnectionEvent {
    loop {
        match connection.next().await {
            ConnectionEvent::Frame(frame) => connection.send([frame, Bytes::from_static(b"\0")]),
            end => return end,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_and_does_not_read_is_not_read_either_and_gets_every_answer_in_the_end() {
    let (ours, mut theirs) = connected().await;
    let connection = tokio::spawn(echo(ours));
    let question = [b"?".repeat(99), vec![0]].concat();
    let mut asked = 0_usize;
    while timeout(FOREVER, theirs.write_all(&question)).await.is_ok() {
        asked += question.len();
        assert!(asked < 512 * 1024, "what is not written grows without bound");
    }
    let mut answers = vec![0; asked];
    let (mut reader, mut writer) = split(theirs);
    // What it asked last may still be in its own buffers.
    let heard = async { tokio::try_join!(reader.read_exact(&mut answers), writer.flush()) };
    timeout(FOREVER, heard).await.expect("a standstill").unwrap();
    assert!(answers.chunks(question.len()).all(|answer| answer == question));
    connection.abort();
}

#[tokio::test]
async fn last_words_and_the_goodbye_of_tls_go_out_before_we_hang_up() {
    let (mut ours, mut theirs) = connected().await;
    ours.send([Bytes::from_static(b"bye\0")]);
    ours.close().await;
    let mut heard = Vec::new();
    // Without a goodbye this would be an error.
    theirs.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"bye\0");
}

#[tokio::test]
async fn an_end_with_goodbye_and_one_without_are_the_same() {
    for goodbye in [true, false] {
        let (mut ours, mut theirs) = connected().await;
        theirs.write_all(b"last words\0and half a fra").await.unwrap();
        theirs.flush().await.unwrap();
        if goodbye {
            theirs.shutdown().await.unwrap();
        }
        drop(theirs);
        assert!(matches!(ours.next().await, ConnectionEvent::Frame(frame) if frame == "last words"));
        let end = ours.next().await;
        assert!(
            matches!(&end, ConnectionEvent::Lost(how) if how == "the peer closed the connection"),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn bytes_that_are_not_of_the_session_break_it() {
    let (mut ours, mut theirs) = connected().await;
    theirs.get_mut().0.write_all(b"\x17\x03\x03\x00\x20 these bytes were never encrypted").await.unwrap();
    let end = ours.next().await;
    assert!(
        matches!(&end, ConnectionEvent::TlsFailed(how) if how == "the peer violates TLS: cannot decrypt peer's message"),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_peer_that_leaves_in_the_middle_of_the_handshake_is_said_to() {
    let (ours, theirs) = duplex(4096);
    drop(theirs);
    let error = secure(Box::new(ours), &client()).await.err().expect("it failed");
    assert!(error.contains(" during the TLS handshake: it may expect a client certificate, or "), "{error}");
    let (ours, mut theirs) = duplex(4096);
    let tls = client();
    let (failed, ()) = tokio::join!(secure(Box::new(ours), &tls), async move {
        theirs.read_u8().await.unwrap();
    });
    let error = failed.err().expect("it failed");
    assert!(error.starts_with("the peer closed the connection during the TLS handshake: it may"), "{error}");
}

#[tokio::test]
async fn a_peer_that_speaks_no_newer_version_than_tls_1_1_is_said_to() {
    let (ours, mut theirs) = duplex(4096);
    let hello =
        [&b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02"[..], &[7; 32], b"\x00\xc0\x13\x00"].concat();
    let tls = client();
    let (failed, ()) = tokio::join!(secure(Box::new(ours), &tls), async {
        theirs.read_u8().await.unwrap();
        theirs.write_all(&hello).await.unwrap();
    });
    assert_eq!(failed.err().as_deref(), Some("the peer speaks neither TLS 1.2 nor TLS 1.3"));
}
