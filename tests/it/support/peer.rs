//! A peer that sends the bytes given by the test.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::within;

/// A listening socket, and the newest connection of the service.
pub(crate) struct ScriptedPeer {
    listener: TcpListener,
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

impl ScriptedPeer {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener, stream: None, received: Vec::new() }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    /// Closes the present connection, and waits for the next one.
    pub(crate) async fn accept(&mut self) {
        self.stream = None;
        let (stream, _) =
            within("a connection to the peer", self.listener.accept()).await.expect("a connection");
        self.stream = Some(stream);
        self.received.clear();
    }

    /// Closes the present connection.
    pub(crate) fn hang_up(&mut self) {
        self.stream = None;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.as_mut().expect("a connection").write_all(bytes).await.expect("the service reads");
    }

    /// The next frame from the service, as JSON.
    pub(crate) async fn receive(&mut self) -> Value {
        serde_json::from_str(&self.receive_text().await).expect("the service sends JSON")
    }

    /// The next frame from the service as text.
    pub(crate) async fn receive_text(&mut self) -> String {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == 0) {
                let mut frame: Vec<u8> = self.received.drain(..=end).collect();
                frame.pop();
                return String::from_utf8(frame).expect("the service sends UTF-8");
            }
            let stream = self.stream.as_mut().expect("a connection");
            let read = within("a frame from the service", stream.read_buf(&mut self.received)).await;
            assert_ne!(read.expect("the connection works"), 0, "the service closed the connection");
        }
    }

    /// Sends this repeatedly without reading, until writing blocks. Returns the number of bytes written, those in socket
    /// buffers included.
    pub(crate) async fn ask_until_stuck(&mut self, question: &[u8]) -> usize {
        let stream = self.stream.as_mut().expect("a connection");
        let mut asked = 0;
        while tokio::time::timeout(Duration::from_secs(1), stream.write_all(question)).await.is_ok() {
            asked += question.len();
        }
        asked
    }

    /// Waits until the service has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let stream = self.stream.as_mut().expect("a connection");
        let mut rest = Vec::new();
        // The connection may also be reset.
        let _ = within("the end of the connection", stream.read_to_end(&mut rest)).await;
    }

    /// Accepts a connection and reads the initial echo and identity. Returns the id of the identity.
    pub(crate) async fn greeted(&mut self) -> Value {
        self.accept().await;
        assert_eq!(self.receive().await["method"], "echo");
        let identity = self.receive().await;
        assert_eq!(identity["method"], "send_identity");
        identity["id"].clone()
    }

    /// Answers an identity with this result.
    pub(crate) async fn answer(&mut self, id: &Value, result: &Value) {
        let answer = serde_json::json!({ "id": id, "result": result });
        self.send(format!("{answer}\0").as_bytes()).await;
    }

    /// Answers an identity as a peer that lists itself.
    pub(crate) async fn answer_well(&mut self, id: &Value) {
        let list =
            serde_json::json!([{ "role": ["policy_repository"], "connectivity_info": self.address() }]);
        let result = serde_json::json!({ "my_role": ["policy_repository"], "peers": list });
        self.answer(id, &result).await;
    }
}
