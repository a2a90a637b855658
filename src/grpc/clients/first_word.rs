//! What a client has to say first, looked at and left where it is.
//!
//! A place among the handshakes is for those with whom one can begin. A byte costs nothing, and whoever has said no more is
//! as good as silent.

use std::io;

use futures_util::FutureExt as _;
use tokio::{io::Interest, net::TcpStream, task::unconstrained};

use crate::http2::PREFACE;

/// The head of a record of TLS: what it is, its version, and its length.
const HEAD: usize = 5;
const HANDSHAKE: u8 = 22;
const VERSION: u8 = 3;
/// The longest that a record may be.
const LONGEST: usize = 16 * 1024;
/// Of a record, no more than this is waited for: room for it is there in any case, and few say more at the beginning.
const ENOUGH: usize = 4 * 1024;

/// What a client has to say first.
#[derive(Debug, Clone, Copy)]
pub(super) enum FirstWord {
    /// The preface of HTTP/2.
    Preface,
    /// The first record of TLS.
    Record,
}

impl FirstWord {
    /// Waits until it is there, or cannot come any more.
    pub(super) async fn heard(self, stream: &TcpStream) -> io::Result<()> {
        loop {
            let ready = stream.ready(Interest::READABLE).await?;
            let looked = stream.try_io(Interest::READABLE, || self.look(stream));
            match looked {
                // What is there is not enough, and more will wake us; unless it was the last.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ready.is_read_closed() => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                looked => return looked,
            }
        }
    }

    /// Says that it would block where what is there is too little: what is unread does not count as readable then.
    fn look(self, stream: &TcpStream) -> io::Result<()> {
        let mut said = [0; ENOUGH];
        // It is ready, so this does not wait, whatever else the task has done in its turn.
        let Some(length) = unconstrained(stream.peek(&mut said)).now_or_never() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let enough = said.get(..length?).is_none_or(|said| self.is_settled(said));
        if enough { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Whether one can begin with it, or see that it comes to nothing.
    fn is_settled(self, said: &[u8]) -> bool {
        match (self, said) {
            // The end.
            (_, []) => true,
            (Self::Preface, _) => said.len() >= PREFACE.len() || !PREFACE.starts_with(said),
            (Self::Record, &[HANDSHAKE]) => false,
            (Self::Record, &[HANDSHAKE, VERSION, _, high, low, ..]) => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                length > LONGEST || said.len() >= (HEAD + length).min(ENOUGH)
            }
            (Self::Record, &[HANDSHAKE, VERSION, ..]) => false,
            (Self::Record, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, server)
    }

    #[test]
    fn a_preface_counts_when_it_is_whole_and_anything_else_at_once() {
        for length in 1..PREFACE.len() {
            assert!(!FirstWord::Preface.is_settled(&PREFACE[..length]), "{length}");
        }
        for settled in [PREFACE, b"", b"G", b"PRO", b"\x16\x03\x01", &[PREFACE, b"more"].concat()] {
            assert!(FirstWord::Preface.is_settled(settled), "{settled:?}");
        }
    }

    #[test]
    fn a_record_counts_when_it_is_whole_or_long_and_what_is_none_at_once() {
        let record = |length: u16| [&[22, 3, 1][..], &length.to_be_bytes(), &vec![1; length.into()]].concat();
        let short = record(300);
        for length in 1..short.len() {
            assert!(!FirstWord::Record.is_settled(&short[..length]), "{length}");
        }
        let (long, too_long) = (record(16_384), record(16_385));
        assert!(!FirstWord::Record.is_settled(&long[..ENOUGH - 1]));
        for settled in [&short, &long[..ENOUGH], &too_long[..HEAD], b"", b"P", b"\x16\x02", b"\x15\x03\x01"] {
            assert!(FirstWord::Record.is_settled(settled), "{settled:?}");
        }
    }

    #[tokio::test]
    async fn it_is_heard_though_it_comes_byte_by_byte_and_stays_where_it_is() {
        let (mut client, server) = pair().await;
        {
            let mut heard = pin!(FirstWord::Preface.heard(&server));
            for byte in PREFACE {
                assert!(heard.as_mut().now_or_never().is_none(), "it is not whole");
                client.write_all(&[*byte]).await.unwrap();
                // Whatever of it has come by now: the last one is what counts.
                tokio::task::yield_now().await;
            }
            heard.await.unwrap();
        }
        let mut read = [0; 64];
        assert_eq!(server.peek(&mut read).await.unwrap(), PREFACE.len());
    }

    #[tokio::test]
    async fn whoever_says_a_part_and_then_no_more_is_not_waited_for() {
        for said in [&b""[..], b"P", &PREFACE[..23]] {
            let (mut client, server) = pair().await;
            client.write_all(said).await.unwrap();
            client.shutdown().await.unwrap();
            FirstWord::Preface.heard(&server).await.unwrap();
        }
    }
}
