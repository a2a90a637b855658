//! A proxy in front of the service that can answer in its place.

use bytes::Bytes;
use http::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::cli::target::Target;

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Answers each request with this HTTP status and a page for people.
    Http(u16),
    /// Answers each request with this gRPC status, without details.
    Grpc(&'static str),
    /// Answers in HTTP/1.1, as a proxy that does not know HTTP/2.
    Http1(u16),
    /// Connects to the service, until there is another answer.
    Forward,
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    pub(crate) address: Target,
    answer: watch::Sender<Answer>,
    /// Ends with this.
    _task: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(service: String, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (answer, answers) = watch::channel(answer);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(serve(client, service.clone(), answers.clone()));
            }
        });
        Self { address, answer, _task: task }
    }

    /// Answers new connections like this, and breaks those to the service.
    pub(crate) fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }
}

async fn serve(client: TcpStream, service: String, mut answers: watch::Receiver<Answer>) {
    let answer = *answers.borrow_and_update();
    match answer {
        Answer::Http(status) => answer_requests(client, || page(status)).await,
        Answer::Grpc(status) => answer_requests(client, || trailers(status)).await,
        Answer::Http1(status) => answer_in_http1(client, status).await,
        Answer::Forward => tokio::select! {
            () = forward(client, &service) => {}
            _ = answers.changed() => {}
        },
    }
}

/// A response and its body.
type Page = (Response<()>, &'static str);

fn page(status: u16) -> Page {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    (response, "<html>an error of the proxy</html>")
}

fn trailers(status: &'static str) -> Page {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
    (response, "")
}

/// Serves the connection until the client closes it.
async fn answer_requests(client: TcpStream, page: impl Fn() -> Page) {
    let Ok(mut connection) = h2::server::handshake(client).await else { return };
    while let Some(Ok((_request, mut respond))) = connection.accept().await {
        let (response, body) = page();
        let mut stream = respond.send_response(response, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
        }
    }
}

async fn answer_in_http1(mut client: TcpStream, status: u16) {
    let head =
        format!("HTTP/1.1 {status} an error of the proxy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    // To its end: closing a socket with unread input sends RST, which can discard the answer.
    let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
}

async fn forward(mut client: TcpStream, service: &str) {
    let mut server = TcpStream::connect(service).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
