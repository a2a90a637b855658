//! Calls to the service, with the failures of commands.

use http::Response;
use tokio::time::timeout;
use tonic::{Status, body::Body};

pub(crate) use crate::client::{CALL_TIMEOUT, Client};
use crate::{
    cli::{exit::Failure, service_clock, target::Target},
    client::drop_foreign_body,
};

/// Connects now.
pub(crate) async fn connect(server: &Target) -> Result<Client, Failure> {
    Ok(Client::connect(&server.options()).await?)
}

/// Takes the time of the service from a response.
pub(super) fn filter_response(response: Response<Body>) -> Response<Body> {
    service_clock::set(response.headers());
    drop_foreign_body(response)
}

/// Makes a call and waits for its answer.
pub(crate) async fn call<M>(
    rpc: impl Future<Output = Result<tonic::Response<M>, Status>>,
) -> Result<M, Failure> {
    match timeout(CALL_TIMEOUT, rpc).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(Failure::Unreachable(format!("no answer from the service within {seconds} s")))
        }
    }
}

/// A field that the API always sets.
pub(crate) fn promised<T>(field: Option<T>, name: &str) -> Result<T, Failure> {
    field.ok_or_else(|| Failure::invalid_response(format!("the service's answer has no {name}")))
}

/// Reads a list page by page. `page` gets the token of a page; it returns what is on it and the token of the next
/// one, which is empty after the last.
pub(crate) async fn all_pages<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (items, next) = page(token.clone()).await?;
        all.extend(items);
        if next.is_empty() {
            return Ok(all);
        }
        if next == token {
            return Err(Failure::invalid_response("the service sent the same page twice"));
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_list_that_never_ends_is_noticed() {
        let page = async |token: String| match token.as_str() {
            "" => Ok((vec![1], "a".to_owned())),
            "a" => Ok((vec![2, 3], String::new())),
            _ => Err(Failure::AlreadyReported),
        };
        assert_eq!(all_pages(page).await.unwrap(), [1, 2, 3]);
        assert!(all_pages(async |_| Ok((vec![1], "a".to_owned()))).await.is_err());
    }
}
