//! One connection of a simulated peer: the server side of the protocol.

use std::{io, ops::ControlFlow, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    select,
    time::{self, Instant},
};
use tokio_rustls::TlsAcceptor;

use super::peer::{Behaviour, Shared};
use crate::{
    opflex::{self, ErrorCode, FrameDecoder, Message, Method, Raw, Request},
    transport::ByteStream,
};

/// Times of the reference: the first echo at once, the second after 10 s, then one every 15 s.
const SECOND_ECHO: Duration = Duration::from_secs(10);
const ECHO_INTERVAL: Duration = Duration::from_secs(15);
/// Limit on the time without a frame from a client, and on one write.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(120);
/// The default of the service.
const FRAME_LIMIT: usize = 4 << 20;
const READ_SIZE: usize = 16 << 10;
/// How long to read after a close: closing a socket with unread input sends RST, which can discard the last answer.
const LINGER: Duration = Duration::from_secs(1);
/// The handshake timeout of a client, which covers TLS.
const TLS_TIMEOUT: Duration = Duration::from_secs(45);
/// A TLS record with the fatal alert handshake_failure.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

struct Connection {
    stream: Box<dyn ByteStream>,
    shared: Arc<Shared>,
    echoes: u64,
    identified: bool,
    /// When a flapping peer closes it.
    closes_at: Option<Instant>,
    last_received: Instant,
}

/// Serves a client until it disconnects, violates the protocol or times out.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    if let Err(error) = try_serve(stream, shared).await {
        tracing::debug!(%error, "simulated connection ended");
    }
}

async fn try_serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if shared.behaviour() == Behaviour::BadTls {
        stream.write_all(&HANDSHAKE_FAILURE).await?;
        return close(Box::new(stream)).await;
    }
    let stream: Box<dyn ByteStream> = match shared.tls() {
        None => Box::new(stream),
        Some(tls) => Box::new(time::timeout(TLS_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await??),
    };
    let last_received = Instant::now();
    Connection { stream, shared, echoes: 0, identified: false, closes_at: None, last_received }.run().await
}

impl Connection {
    async fn run(mut self) -> io::Result<()> {
        self.echo().await?;
        let mut echoes = time::interval_at(Instant::now() + SECOND_ECHO, ECHO_INTERVAL);
        let mut frames = FrameDecoder::new(FRAME_LIMIT);
        let mut chunk = vec![0; READ_SIZE];
        loop {
            select! {
                read = self.stream.read(&mut chunk) => {
                    let bytes = chunk.get(..read?).unwrap_or_default();
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    frames.push(bytes);
                    if self.handle_frames(&mut frames).await?.is_break() {
                        return close(self.stream).await;
                    }
                }
                () = sleep_until(self.closes_at) => return close(self.stream).await,
                _ = echoes.tick() => {
                    if self.last_received.elapsed() > KEEPALIVE_TIMEOUT {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    self.echo().await?;
                }
            }
        }
    }

    /// Answers requests; breaks if the connection is to be closed.
    async fn handle_frames(&mut self, frames: &mut FrameDecoder) -> io::Result<ControlFlow<()>> {
        while let Some(frame) = frames.next_frame().map_err(invalid)? {
            self.last_received = Instant::now();
            if frame.is_empty() {
                continue;
            }
            // Answers to our echoes need no handling.
            if let Message::Request(request) = Message::parse(&frame).map_err(invalid)?
                && self.sends()
                && self.answer(request).await?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn answer(&mut self, Request { id, method, params }: Request) -> io::Result<ControlFlow<()>> {
        match (method, params) {
            (Method::Echo, Some(params)) => self.send(&opflex::result(&id, &params)).await?,
            (Method::SendIdentity, _) => return self.answer_identity(&id).await,
            _ => self.send(&opflex::error(&id, ErrorCode::Eunsupported, "Unsupported request")).await?,
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn answer_identity(&mut self, id: &Raw) -> io::Result<ControlFlow<()>> {
        let behaviour = self.shared.behaviour();
        let segments = match behaviour {
            Behaviour::Normal | Behaviour::Mute | Behaviour::Flap(_) | Behaviour::BadTls => {
                self.identified = true;
                opflex::result(id, &self.shared.identity_answer())
            }
            Behaviour::RejectIdentity => opflex::error(id, ErrorCode::Error, "rejected by the simulation"),
            Behaviour::Garbage => vec![Bytes::from_static(b"this is not JSON\0")],
            Behaviour::Silent => vec![],
        };
        self.send(&segments).await?;
        match behaviour {
            Behaviour::Flap(Duration::ZERO) => return Ok(ControlFlow::Break(())),
            Behaviour::Flap(after) => self.closes_at = Instant::now().checked_add(after),
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn echo(&mut self) -> io::Result<()> {
        if !self.sends() {
            return Ok(());
        }
        let echo = opflex::echo(self.echoes, self.shared.millis());
        self.echoes += 1;
        self.send(&[echo]).await
    }

    fn sends(&self) -> bool {
        match self.shared.behaviour() {
            Behaviour::Silent => false,
            Behaviour::Mute => !self.identified,
            Behaviour::Normal
            | Behaviour::RejectIdentity
            | Behaviour::Garbage
            | Behaviour::Flap(_)
            | Behaviour::BadTls => true,
        }
    }

    async fn send(&mut self, segments: &[Bytes]) -> io::Result<()> {
        let sent = async {
            self.stream.write_all(&segments.concat()).await?;
            self.stream.flush().await
        };
        time::timeout(KEEPALIVE_TIMEOUT, sent).await?
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn close(mut stream: Box<dyn ByteStream>) -> io::Result<()> {
    let mut rest = [0; 1024];
    let closed = async {
        stream.shutdown().await?;
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    time::timeout(LINGER, closed).await?
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
