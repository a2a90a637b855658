//! The same mistake gets the same error in every method.

use std::{collections::BTreeSet, fmt::Debug, fs, path::Path};

use opflex_peerstatus::api::pb::{
    AddPeerRequest, CreateListenerRequest, DestroyListenerRequest, GetListenerRequest, GetPeerRequest,
    GetPoolRequest, ListListenersRequest, ListPeersRequest, ListPoolsRequest, ListTransitionsRequest,
    PoolHealth, RemovePeerRequest, ResetPeersRequest, ResetScope, WaitForPoolRequest, WatchPeerStatusRequest,
};
use tonic::{Code, Response, Status};

use crate::{
    errors::invalid,
    support::{Server, documented_reasons, explain, within},
};

type Refusal = (Code, String, Vec<String>);

/// What a call is refused with.
async fn refused<T: Debug>(call: impl Future<Output = Result<Response<T>, Status>>) -> Refusal {
    explain(&within("a refusal", call).await.unwrap_err())
}

/// The field, and what is said about it, of every call that takes the name of a pool.
async fn naming_pool(server: &Server, name: &str) -> Vec<(&'static str, Refusal)> {
    let mut pools = server.pools();
    let (name, parent) = (name.to_owned(), name.to_owned());
    let health = PoolHealth::Down.into();
    let add = AddPeerRequest { parent: parent.clone(), host: "leaf-101".into(), port: 8009 };
    let reset = ResetPeersRequest { parent: parent.clone(), ..Default::default() };
    let list = ListPeersRequest { parent: parent.clone(), ..Default::default() };
    let past = ListTransitionsRequest { parent, ..Default::default() };
    vec![
        ("name", refused(pools.get_pool(GetPoolRequest { name: name.clone() })).await),
        ("name", refused(pools.wait_for_pool(WaitForPoolRequest { name, health })).await),
        ("parent", refused(pools.add_peer(add)).await),
        ("parent", refused(pools.reset_peers(reset)).await),
        ("parent", refused(pools.list_peers(list)).await),
        ("parent", refused(pools.list_transitions(past)).await),
    ]
}

/// The same for the name of a peer.
async fn naming_peer(server: &Server, name: &str) -> Vec<(&'static str, Refusal)> {
    let mut pools = server.pools();
    let name = name.to_owned();
    let (scope, names) = (ResetScope::Named.into(), vec![name.clone()]);
    let reset = ResetPeersRequest { scope, names, ..Default::default() };
    vec![
        ("name", refused(pools.get_peer(GetPeerRequest { name: name.clone() })).await),
        ("name", refused(pools.remove_peer(RemovePeerRequest { name })).await),
        ("names", refused(pools.reset_peers(reset)).await),
    ]
}

/// The same for the name of a listener.
async fn naming_listener(server: &Server, name: &str) -> Vec<(&'static str, Refusal)> {
    let mut listeners = server.listeners();
    let (name, listener) = (name.to_owned(), name.to_owned());
    let destroy = DestroyListenerRequest { name: name.clone(), allow_missing: false };
    let watch = WatchPeerStatusRequest { listener, ..Default::default() };
    vec![
        ("name", refused(listeners.get_listener(GetListenerRequest { name })).await),
        ("name", refused(listeners.destroy_listener(destroy)).await),
        ("listener", refused(listeners.watch_peer_status(watch)).await),
    ]
}

/// The same for a page token.
async fn with_token(server: &Server, token: &str) -> Vec<(&'static str, Refusal)> {
    let (mut listeners, mut pools) = (server.listeners(), server.pools());
    let page_token = token.to_owned();
    let past = ListTransitionsRequest { page_token: page_token.clone(), ..Default::default() };
    let list = ListPeersRequest { page_token: page_token.clone(), ..Default::default() };
    let list_pools = ListPoolsRequest { page_token: page_token.clone(), ..Default::default() };
    let list_listeners = ListListenersRequest { page_token, ..Default::default() };
    vec![
        ("page_token", refused(pools.list_transitions(past)).await),
        ("page_token", refused(pools.list_peers(list)).await),
        ("page_token", refused(pools.list_pools(list_pools)).await),
        ("page_token", refused(listeners.list_listeners(list_listeners)).await),
    ]
}

#[tokio::test]
async fn names_of_another_form_are_refused() {
    let server = Server::start(&[]).await;
    let long = "x".repeat(64);
    for name in
        ["default", "pools/", "pools/No", "pools/a/b", "pools/ü", "Pools/default", &format!("pools/{long}")]
    {
        for (field, refusal) in naming_pool(&server, name).await {
            assert_eq!(refusal, invalid("BAD_NAME", field), "{name:?}");
        }
    }
    for name in ["gone", "listeners/", "listeners/No", "listeners/a/b", &format!("listeners/{long}")] {
        for (field, refusal) in naming_listener(&server, name).await {
            assert_eq!(refusal, invalid("BAD_NAME", field), "{name:?}");
        }
    }
    for name in
        ["", "h:1", "peers/h:1", "pools/default/peers/", "pools/default/peers/h", "pools/No/peers/h:1"]
    {
        for (field, refusal) in naming_peer(&server, name).await {
            assert_eq!(refusal, invalid("BAD_NAME", field), "{name:?}");
        }
    }
    let host = "x".repeat(254);
    for address in ["h:0", "h:65536", "h:-1", "h:x", ":1", "[::g]:1", "::1:1", "a b:1", &format!("{host}:1")]
    {
        for (field, refusal) in naming_peer(&server, &format!("pools/default/peers/{address}")).await {
            assert_eq!(refusal, invalid("BAD_PEER_ADDRESS", field), "{address:?}");
        }
    }
    // Elsewhere nothing means something: the default pool, every pool, a listener of its own.
    let empty = String::new;
    let none = invalid("BAD_NAME", "name");
    assert_eq!(refused(server.pools().get_pool(GetPoolRequest { name: empty() })).await, none);
    assert_eq!(refused(server.listeners().get_listener(GetListenerRequest { name: empty() })).await, none);
    for allow_missing in [false, true] {
        let destroy = DestroyListenerRequest { name: empty(), allow_missing };
        assert_eq!(refused(server.listeners().destroy_listener(destroy)).await, none);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Server::start(&[]).await;
    let not_found = |reason: &str| (Code::NotFound, reason.to_owned(), vec![]);
    for (_, refusal) in naming_pool(&server, "pools/other").await {
        assert_eq!(refusal, not_found("POOL_NOT_FOUND"));
    }
    for (_, refusal) in naming_peer(&server, "pools/default/peers/h:1").await {
        assert_eq!(refusal, not_found("PEER_NOT_FOUND"));
    }
    for (field, refusal) in naming_peer(&server, "pools/other/peers/h:1").await {
        // A reset is of one pool, and this is not it.
        let expected =
            if field == "names" { invalid("BAD_NAME", field) } else { not_found("POOL_NOT_FOUND") };
        assert_eq!(refusal, expected);
    }
    for (_, refusal) in naming_listener(&server, "listeners/gone").await {
        assert_eq!(refusal, not_found("LISTENER_NOT_FOUND"));
    }
    let destroy = DestroyListenerRequest { name: "listeners/gone".into(), allow_missing: true };
    server.listeners().destroy_listener(destroy).await.expect("that is what was asked for");
    server.stop().await;
}

#[tokio::test]
async fn page_tokens_that_no_page_gave_out_are_refused() {
    let server = Server::start(&[]).await;
    for token in ["?", "default", "pools/No", "1-1", &"x".repeat(5000)] {
        for (field, refusal) in with_token(&server, token).await {
            assert_eq!(refusal, invalid("BAD_PAGE_TOKEN", field), "{token:?}");
        }
    }
    // That of another list.
    let (parent, page_token) = ("pools/default".into(), "pools/other/peers/h:1".into());
    let other = ListPeersRequest { parent, page_token, ..Default::default() };
    assert_eq!(refused(server.pools().list_peers(other)).await, invalid("BAD_PAGE_TOKEN", "page_token"));
    server.stop().await;
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_and_the_connection_stays() {
    let server = Server::start(&[]).await;
    let long = "x".repeat(64 * 1024);
    let create = CreateListenerRequest { listener_id: long.clone(), ..Default::default() };
    let mut refusals = vec![("listener_id", refused(server.listeners().create_listener(create)).await)];
    refusals.extend(naming_pool(&server, &long).await);
    refusals.extend(naming_peer(&server, &long).await);
    refusals.extend(naming_listener(&server, &long).await);
    refusals.extend(with_token(&server, &long).await);
    for (field, refusal) in refusals {
        assert_eq!(refusal, (Code::InvalidArgument, "REQUEST_TOO_LARGE".into(), vec![]), "{field}");
    }
    server.pool().await;
    server.stop().await;
}

#[test]
fn every_reason_that_there_is_is_told_of_in_docs_api_md_and_no_other() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.join("api"), source.join("server")];
    let mut files = vec![source.join("error_info.rs")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    // docs/status-page.md has those of JSON over HTTP alone.
    files.retain(|file| !file.to_string_lossy().contains("json"));
    let mut used = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let shouted =
            |text: &&str| text.len() > 3 && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'_'));
        used.extend(text.split('"').filter(shouted).map(str::to_owned));
    }
    used.remove("POST"); // HTTP's
    let told: BTreeSet<_> = documented_reasons().map(|(reason, _)| reason.to_owned()).collect();
    assert_eq!(used, told);
}

#[tokio::test]
async fn the_name_of_a_peer_has_one_spelling_and_who_uses_another_is_told_which() {
    let server = Server::start(&[]).await;
    let long = format!("pools/default/peers/leaf-101:{}8009", "0".repeat(5000));
    for (name, own) in [
        ("pools/default/peers/leaf-101:08009", "pools/default/peers/leaf-101:8009"),
        (&long, "pools/default/peers/leaf-101:8009"),
        ("pools/default/peers/LEAF-101:8009", "pools/default/peers/leaf-101:8009"),
        ("pools/default/peers/[2001:db8:0::0:1]:8009", "pools/default/peers/[2001:db8::1]:8009"),
    ] {
        for (field, refusal) in naming_peer(&server, name).await {
            assert_eq!(refusal, invalid("BAD_NAME", field), "{name}");
        }
        let request = RemovePeerRequest { name: name.to_owned() };
        let message = server.pools().remove_peer(request).await.unwrap_err().message().to_owned();
        assert!(message.ends_with(&format!("expected {own}")), "{message}");
        assert!(message.len() < 250, "what was sent may be long, what is said of it is not: {message}");
    }
    server.stop().await;
}
