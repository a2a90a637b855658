//! What is answered to which path.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use tokio::sync::watch;

use super::Exposition;
use crate::metrics::LoopMonitors;

/// An event loop that has not turned for so long is stuck: a busy one is late by milliseconds.
const STUCK: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "\
/metrics  numbers, for Prometheus and its like
/livez    200 while the event loops turn
/readyz   200 while requests are taken
/config   the configuration in effect
";

/// What the pages tell of.
pub struct Pages {
    /// The numbers.
    pub exposition: Arc<Exposition>,
    /// Whether event loops turn.
    pub turns: LoopMonitors,
    /// Whether the service is stopping.
    pub draining: watch::Receiver<bool>,
    /// The configuration in effect, as JSON.
    pub config: watch::Receiver<Arc<str>>,
}

type Page = Response<Full<Bytes>>;

impl Pages {
    /// What is answered.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Page {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            page.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return page;
        }
        match path {
            "/" => text(StatusCode::OK, INDEX),
            "/metrics" => match Arc::clone(&self.exposition).page().await {
                Some(numbers) => page(StatusCode::OK, Exposition::CONTENT_TYPE, numbers),
                None => text(StatusCode::INTERNAL_SERVER_ERROR, "the numbers could not be put together\n"),
            },
            "/livez" => alive(self.turns.since()),
            "/readyz" if *self.draining.borrow() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/readyz" => text(StatusCode::OK, "ready\n"),
            "/config" => page(StatusCode::OK, "application/json", self.config.borrow().to_string().into()),
            _ => text(StatusCode::NOT_FOUND, format!("no such page; there are:\n{INDEX}")),
        }
    }
}

fn alive(since: Duration) -> Page {
    if since < STUCK {
        return text(StatusCode::OK, "alive\n");
    }
    let word = format!("an event loop has not turned for {} s\n", since.as_secs());
    text(StatusCode::SERVICE_UNAVAILABLE, word)
}

fn text(status: StatusCode, text: impl Into<String>) -> Page {
    page(status, TEXT, Bytes::from(text.into()))
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Page {
    let mut page = Response::new(Full::new(body));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_late_is_alive_and_one_that_is_stuck_is_not() {
        assert_eq!(alive(Duration::from_secs(9)).status(), StatusCode::OK);
        assert_eq!(alive(STUCK).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
