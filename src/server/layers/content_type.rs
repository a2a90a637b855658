//! Rejects requests that are not gRPC: tonic does not check the content type, and web pages can send forms anywhere.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method, StatusCode, Version, header};

use crate::server::admission::OpenCall;

const HINT: &str = "This port serves gRPC. From a shell, try `grpcurl HOST:PORT list`, with -plaintext if the port has no \
    TLS. Metrics and probes are on the admin port, server.admin.\n";

/// Accepts gRPC, and gRPC-Web if there are allowed origins.
pub(super) async fn check(
    State(origins): State<Arc<[HeaderValue]>>,
    request: Request,
    next: Next,
) -> Response {
    let version = request.version();
    match refusal(&origins, &request) {
        None => next.run(request).await,
        Some((status, reason)) => {
            if let Some(call) = request.extensions().get::<Arc<OpenCall>>() {
                call.connection().refuse();
            }
            let mut response = (status, format!("{reason}\n{HINT}")).into_response();
            if version < Version::HTTP_2 {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            response
        }
    }
}

fn refusal(origins: &[HeaderValue], request: &Request) -> Option<(StatusCode, String)> {
    let text = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let mut given = request.headers().get_all(header::ORIGIN).iter();
    if given.next().is_some_and(|origin| !origins.contains(origin)) || given.next().is_some() {
        let reason = "The origin of this request is not one of server.web.allowed_origins.";
        return Some((StatusCode::FORBIDDEN, reason.to_owned()));
    }
    if request.method() != Method::POST {
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{} is not a method of gRPC.", request.method()),
        ));
    }
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    match kind(content_type) {
        Some(Kind::Grpc) if request.version() == Version::HTTP_2 => None,
        Some(Kind::Grpc) => Some((StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2.".to_owned())),
        Some(Kind::GrpcWeb) if !origins.is_empty() => None,
        Some(Kind::GrpcWeb) => {
            let reason = "gRPC-Web is switched off; set server.web.allowed_origins.";
            Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, reason.to_owned()))
        }
        None => {
            let reason = format!("The content type {content_type:?} is not application/grpc.");
            Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, reason))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    GrpcWeb,
}

/// `None` also for gRPC with messages in another format than protobuf.
fn kind(content_type: &str) -> Option<Kind> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.strip_suffix("+proto").unwrap_or(&essence) {
        "application/grpc" => Some(Kind::Grpc),
        "application/grpc-web" | "application/grpc-web-text" => Some(Kind::GrpcWeb),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_and_grpc_web_are_told_apart_from_the_rest() {
        for (content_type, expected) in [
            ("application/grpc", Some(Kind::Grpc)),
            ("application/grpc+proto", Some(Kind::Grpc)),
            ("Application/gRPC; charset=utf-8", Some(Kind::Grpc)),
            ("application/grpc-web", Some(Kind::GrpcWeb)),
            ("application/grpc-web-text+proto", Some(Kind::GrpcWeb)),
            ("application/grpcx", None),
            ("application/grpc+json", None),
            ("application/grpc-web+json", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(kind(content_type), expected, "{content_type}");
        }
    }
}
