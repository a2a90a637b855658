//! Authentication and authorization over the network.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use opflex_peerstatus::{
    api::pb::{
        AddPeerRequest, CreateListenerRequest, DestroyListenerRequest, GetListenerRequest, GetPoolRequest,
        ListListenersRequest, ListPoolsRequest, PoolHealth, RemovePeerRequest, ResetPeersRequest,
        WaitForPoolRequest, WatchPeerStatusRequest, peer_status_service_client::PeerStatusServiceClient,
        pool_service_client::PoolServiceClient,
    },
    auth::{AccessRole, AuthSettings, Grant, JwtSettings, LEEWAY, NewToken, PrincipalPattern},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Status, client::Grpc, metadata::AsciiMetadataValue,
    service::interceptor::InterceptedService, transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::support::{Authority, ClientFiles, SecureServer, Server, explain, peerstatus, settings, within};

/// The service, with two viewers and an operator who have tokens, and an issuer of JWTs.
struct Stage {
    files: ClientFiles,
    server: Server,
    issuer: Ed25519KeyPair,
    ann: NewToken,
    bob: NewToken,
    operator: NewToken,
}

type Bearer = Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send + Sync>;
type Listeners = PeerStatusServiceClient<InterceptedService<Channel, Bearer>>;
type Pools = PoolServiceClient<InterceptedService<Channel, Bearer>>;

fn bearer(token: &str) -> Bearer {
    let value: AsciiMetadataValue = format!("Bearer {token}").parse().unwrap();
    Box::new(move |mut request| {
        request.metadata_mut().insert("authorization", value.clone());
        Ok(request)
    })
}

fn grant(principal: &str, role: Option<AccessRole>) -> Grant {
    Grant { principals: vec![PrincipalPattern::new(principal).unwrap()], role }
}

impl Stage {
    async fn new(shape: impl FnOnce(&mut AuthSettings)) -> Self {
        let files = ClientFiles::new();
        let make = |name, role| NewToken::generate(name, role).unwrap();
        let (ann, bob) = (make("ann", AccessRole::Viewer), make("bob", AccessRole::Viewer));
        let operator = make("root", AccessRole::Operator);
        let tokens = files.write("tokens", &[&*ann.line, &bob.line, &operator.line].join("\n"));
        let issuer = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let issuer = Ed25519KeyPair::from_pkcs8(issuer.as_ref()).unwrap();
        let x = BASE64.encode(issuer.public_key().as_ref());
        let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x }] });
        let jwks = files.write("jwks", &jwks.to_string());
        let jwt = JwtSettings { jwks, issuer: "https://issuer".into(), audience: "us".into() };
        let mut auth =
            AuthSettings { tokens: Some(tokens), jwt: Some(jwt), local: None, ..AuthSettings::default() };
        shape(&mut auth);
        let mut config = settings(&[]);
        config.server.auth = auth;
        config.limits.max_listeners_per_principal = 2;
        config.limits.max_streams_per_principal = 3;
        Self { files, server: Server::start_with(config).await, issuer, ann, bob, operator }
    }

    fn listeners(&self, token: &str) -> Listeners {
        PeerStatusServiceClient::with_interceptor(self.server.channel.clone(), bearer(token))
    }

    fn pools(&self, token: &str) -> Pools {
        PoolServiceClient::with_interceptor(self.server.channel.clone(), bearer(token))
    }

    /// A JWT of somebody that is accepted for so long yet.
    fn jwt(&self, subject: &str, left: Duration) -> String {
        let expires = SystemTime::now() + left - LEEWAY;
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let claims = json!({ "iss": "https://issuer", "aud": "us", "sub": subject, "exp": expires });
        let part = |value: serde_json::Value| BASE64.encode(value.to_string());
        let message = format!("{}.{}", part(json!({ "alg": "EdDSA", "kid": "1" })), part(claims));
        format!("{message}.{}", BASE64.encode(self.issuer.sign(message.as_bytes())))
    }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let (code, reason, _) = explain(&answer.unwrap_err());
    (code, reason)
}

fn unauthenticated(reason: &str) -> (Code, String) {
    (Code::Unauthenticated, reason.to_owned())
}

#[tokio::test]
async fn nobody_gets_in_without_credentials_or_with_wrong_ones() {
    let stage = Stage::new(|_| {}).await;
    let get = || GetPoolRequest { name: "pools/default".into() };
    let missing = stage.server.pools().get_pool(get()).await;
    assert_eq!(refusal(missing), unauthenticated("CREDENTIALS_MISSING"));
    let watch = stage.server.listeners().watch_peer_status(WatchPeerStatusRequest::default()).await;
    assert_eq!(refusal(watch.map(drop)), unauthenticated("CREDENTIALS_MISSING"));
    for wrong in ["x", "opst_wrong", "a.b.c"] {
        let refused = stage.pools(wrong).get_pool(get()).await.unwrap_err();
        assert!(!refused.message().contains(wrong));
        assert_eq!(refusal(Err::<(), _>(refused)), unauthenticated("CREDENTIALS_INVALID"));
    }
    let expired = stage.jwt("a", Duration::ZERO);
    assert_eq!(refusal(stage.pools(&expired).get_pool(get()).await), unauthenticated("TOKEN_EXPIRED"));
    let mut twice = Request::new(get());
    for token in [&stage.ann.token, &stage.bob.token] {
        twice.metadata_mut().append("authorization", format!("Bearer {token}").parse().unwrap());
    }
    assert_eq!(refusal(stage.server.pools().get_pool(twice).await), unauthenticated("CREDENTIALS_INVALID"));
    let health = peerstatus(&["health", "--server", &stage.server.address().to_string()]).await;
    assert_eq!(health.stdout, b"SERVING\n", "a probe needs none");
    for token in [&stage.ann.token, &stage.jwt("a", Duration::from_secs(60))] {
        stage.pools(token).get_pool(get()).await.unwrap();
    }
    stage.server.stop().await;
}

#[tokio::test]
async fn a_viewer_changes_no_pool() {
    let stage = Stage::new(|auth| {
        auth.grants = vec![grant("jwt:banned", None), grant("jwt:*-admin", Some(AccessRole::Operator))];
    })
    .await;
    let add = |port| AddPeerRequest { host: "127.0.0.1".into(), port, ..Default::default() };
    let mut pools = stage.pools(&stage.ann.token);
    let refused = pools.add_peer(add(1)).await.unwrap_err();
    assert_eq!(refused.message(), "token:ann has the role viewer; the role operator is required");
    let denied = (Code::PermissionDenied, "ROLE_REQUIRED".to_owned());
    assert_eq!(refusal(Err::<(), _>(refused)), denied);
    let name = "pools/default/peers/127.0.0.1:1".to_owned();
    assert_eq!(refusal(pools.remove_peer(RemovePeerRequest { name }).await), denied);
    assert_eq!(refusal(pools.reset_peers(ResetPeersRequest::default()).await), denied);
    let long = Duration::from_secs(60);
    stage.pools(&stage.operator.token).add_peer(add(1)).await.unwrap();
    stage.pools(&stage.jwt("a-admin", long)).add_peer(add(2)).await.unwrap();
    let banned = stage.pools(&stage.jwt("banned", long)).list_pools(ListPoolsRequest::default()).await;
    assert_eq!(refusal(banned), denied);
    stage.server.stop().await;
}

#[tokio::test]
async fn listeners_of_others_are_not_there() {
    let stage = Stage::new(|_| {}).await;
    let (mut ann, mut bob) = (stage.listeners(&stage.ann.token), stage.listeners(&stage.bob.token));
    let create = CreateListenerRequest { listener_id: "anns".into(), ..Default::default() };
    let made = ann.create_listener(create).await.unwrap().into_inner().listener.unwrap();
    assert_eq!(made.owner, "token:ann");
    let name = || made.name.clone();
    let not_found = (Code::NotFound, "LISTENER_NOT_FOUND".to_owned());
    assert_eq!(refusal(bob.get_listener(GetListenerRequest { name: name() }).await), not_found);
    for takeover in [false, true] {
        let watch = WatchPeerStatusRequest { listener: name(), takeover, ..Default::default() };
        assert_eq!(refusal(bob.watch_peer_status(watch).await.map(drop)), not_found);
    }
    for (allow_missing, expected) in [(false, Err(not_found.clone())), (true, Ok(()))] {
        let destroy = DestroyListenerRequest { name: name(), allow_missing };
        let answer = bob.destroy_listener(destroy).await;
        assert_eq!(answer.map(drop).map_err(|status| refusal(Err::<(), _>(status))), expected);
    }
    let count = async |mut client: Listeners| {
        let list = client.list_listeners(ListListenersRequest::default()).await.unwrap();
        list.into_inner().listeners.len()
    };
    assert_eq!(count(stage.listeners(&stage.ann.token)).await, 1, "and nothing has happened to it");
    assert_eq!(count(stage.listeners(&stage.bob.token)).await, 0);
    assert_eq!(count(stage.listeners(&stage.operator.token)).await, 1);
    let mut operator = stage.listeners(&stage.operator.token);
    let watch = WatchPeerStatusRequest { listener: name(), ..Default::default() };
    drop(operator.watch_peer_status(watch).await.unwrap());
    let destroy = DestroyListenerRequest { name: name(), allow_missing: false };
    operator.destroy_listener(destroy).await.unwrap();
    drop((ann, bob, operator));
    stage.server.stop().await;
}

#[tokio::test]
async fn nobody_can_use_up_the_listeners_alone() {
    let stage = Stage::new(|auth| auth.local = Some(AccessRole::Viewer)).await;
    let mut ann = stage.listeners(&stage.ann.token);
    let mut create = async || ann.create_listener(CreateListenerRequest::default()).await;
    create().await.unwrap();
    let second = create().await.unwrap().into_inner().listener.unwrap().name;
    let refused = create().await.unwrap_err();
    assert_eq!(refused.message(), "token:ann has reached the limit of 2 listeners for one principal");
    let quota = (Code::ResourceExhausted, "LISTENER_QUOTA".to_owned());
    assert_eq!(refusal(Err::<(), _>(refused)), quota);
    let watch = ann.watch_peer_status(WatchPeerStatusRequest::default()).await;
    assert_eq!(refusal(watch.map(drop)), quota, "ephemeral ones count");
    ann.destroy_listener(DestroyListenerRequest { name: second, allow_missing: false }).await.unwrap();
    ann.create_listener(CreateListenerRequest::default()).await.unwrap();
    let mut bob = stage.listeners(&stage.bob.token);
    bob.create_listener(CreateListenerRequest::default()).await.unwrap();
    for _ in 0..5 {
        stage.server.create(CreateListenerRequest::default()).await;
    }
    drop((ann, bob));
    stage.server.stop().await;
}

#[tokio::test]
async fn a_watch_ends_when_its_token_expires_or_is_taken_back() {
    let stage = Stage::new(|_| {}).await;
    let watch = async |token: &str| {
        let stream = stage.listeners(token).watch_peer_status(WatchPeerStatusRequest::default()).await;
        stream.unwrap().into_inner()
    };
    let mut short = watch(&stage.jwt("a", Duration::from_secs(1))).await;
    let (mut ann, mut bob) = (watch(&stage.ann.token).await, watch(&stage.bob.token).await);
    let end = async |stream: &mut tonic::Streaming<_>| loop {
        match within("the end", stream.next()).await {
            Some(Ok(_)) => {}
            Some(Err(status)) => return refusal(Err::<(), _>(status)),
            None => panic!("no watch ends well"),
        }
    };
    assert_eq!(end(&mut short).await, unauthenticated("TOKEN_EXPIRED"));
    stage.files.write("tokens", &stage.bob.line);
    assert_eq!(end(&mut ann).await, unauthenticated("CREDENTIALS_INVALID"));
    let get = GetPoolRequest { name: "pools/default".into() };
    let refused = stage.pools(&stage.ann.token).get_pool(get).await;
    assert_eq!(refusal(refused), unauthenticated("CREDENTIALS_INVALID"));
    stage.server.begin_stop();
    assert_eq!(end(&mut bob).await, (Code::Unavailable, "DRAINING".to_owned()), "the other one stays");
    drop((short, ann, bob));
    stage.server.stop().await;
}

/// Headers let a request in; its rest comes when the token has been taken back.
#[tokio::test]
async fn a_request_that_is_long_in_coming_is_looked_at_when_it_is_there() {
    let stage = Stage::new(|_| {}).await;
    let begin = |path: &'static str| {
        let mut client = Grpc::new(stage.server.channel.clone());
        let (body, rest) = mpsc::channel::<AddPeerRequest>(1);
        let mut request = Request::new(ReceiverStream::new(rest));
        let value = format!("Bearer {}", stage.operator.token).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        let answer = tokio::spawn(async move {
            client.ready().await.unwrap();
            let codec = ProstCodec::<_, ()>::default();
            client.streaming(request, path.parse().unwrap(), codec).await
        });
        (body, answer)
    };
    let watch = async || {
        let request = WatchPeerStatusRequest::default();
        stage.listeners(&stage.operator.token).watch_peer_status(request).await.unwrap().into_inner()
    };
    let change = begin("/opflex.peerstatus.v1.PoolService/AddPeer");
    let late = begin("/opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus");
    let ended = async |mut stream: tonic::Streaming<_>| while let Ok(Some(_)) = stream.message().await {};
    // What both have begun before is there by now: they are on one connection.
    let watch = watch().await;
    stage.files.write("tokens", &stage.ann.line);
    within("the token to be taken back", ended(watch)).await;
    for (message, (body, answer)) in [
        (AddPeerRequest { parent: "pools/default".into(), host: "a".into(), port: 1 }, change),
        (AddPeerRequest::default(), late),
    ] {
        // It has been refused already.
        let _ = body.send(message).await;
        drop(body);
        let answer = within("an answer", answer).await.unwrap();
        assert_eq!(refusal(answer.map(drop)), unauthenticated("CREDENTIALS_INVALID"));
    }
    stage.server.stop().await;
}

#[tokio::test]
async fn no_secret_is_told_to_anybody() {
    let stage = Stage::new(|_| {}).await;
    let token = stage.files.write("token", &format!("{}\n", stage.ann.token));
    let (token, address) = (token.to_str().unwrap(), stage.server.address().to_string());
    let jwt = stage.jwt("a", Duration::from_secs(60));
    let _watch = stage.listeners(&jwt).watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap();
    let options = ["--server", &address, "--token-file", token, "-o", "json"];
    for command in
        [&["listeners", "create", "--id", "anns"][..], &["listeners", "list"], &["peers", "add", "a:1"]]
    {
        let output = peerstatus(&[command, &options].concat()).await;
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(told.contains("token:ann"), "{told}");
        for secret in [&stage.ann.token, stage.ann.line.rsplit(':').next().unwrap()] {
            assert!(!told.contains(secret), "{told}");
        }
    }
    let list = stage.listeners(&stage.operator.token).list_listeners(ListListenersRequest::default()).await;
    let told = format!("{:?}", list.unwrap());
    assert!(told.contains("jwt:a") && !told.contains(jwt.rsplit('.').next().unwrap()), "{told}");
    stage.server.stop().await;
}

#[tokio::test]
async fn a_token_is_not_sent_where_others_can_listen_in_and_a_bad_file_is_told() {
    let files = ClientFiles::new();
    let token = files.write("token", "opst_secret");
    let open = ["health", "--server", "peerstatus.invalid:1", "--token-file", token.to_str().unwrap()];
    let output = peerstatus(&open).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(64) && told.contains("in plaintext: use --server https://"),
        "{told}"
    );
    assert!(!told.contains("secret"));
    let missing = files.path("missing");
    let output = peerstatus(&["health", "--token-file", missing.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("--token-file: {}: No such file", missing.display())), "{told}");
    for (text, told) in [("", "does not hold one token"), ("two words", "does not hold one token")] {
        let file = files.write("bad", text);
        let output = peerstatus(&["health", "--token-file", file.to_str().unwrap()]).await;
        assert_eq!(output.status.code(), Some(64));
        assert!(String::from_utf8(output.stderr).unwrap().contains(told));
    }
}

#[tokio::test]
async fn a_certificate_says_who_a_client_is() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let mut config = settings(&[]);
    let grants = vec![grant("cert:root", Some(AccessRole::Operator))];
    let auth = AuthSettings { local: None, grants, ..AuthSettings::default() };
    config.server.auth = auth;
    let server =
        SecureServer::start(&authority.issue("localhost"), Some((&clients, "optional")), config).await;
    let address = format!("https://localhost:{}", server.address().port());
    let ca = server.files.write("ca.pem", &authority.pem());
    let add = async |holder: Option<&str>| {
        let mut options = vec!["peers", "add", "127.0.0.1:1", "--server", &address];
        options.extend(["--tls-ca", ca.to_str().unwrap()]);
        let files = holder.map(|holder| {
            let own = clients.issue(holder);
            (server.files.write("own.pem", &own.cert), server.files.write("own.key", &own.key))
        });
        if let Some((cert, key)) = &files {
            options.extend(["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
        }
        String::from_utf8(peerstatus(&options).await.stderr).unwrap()
    };
    assert!(add(None).await.contains("CREDENTIALS_MISSING"));
    assert!(add(Some("agent")).await.contains("cert:agent has the role viewer"));
    assert_eq!(add(Some("root")).await, "");
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_made_and_works_with_the_line_that_comes_with_it() {
    let output = peerstatus(&["token", "new", "ci", "--role", "operator", "-o", "json"]).await;
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (token, line) = (made["token"].as_str().unwrap(), made["line"].as_str().unwrap());
    let stage = Stage::new(|auth| fs::write(auth.tokens.as_ref().unwrap(), line).unwrap()).await;
    stage.pools(token).list_pools(ListPoolsRequest::default()).await.unwrap();
    let human = peerstatus(&["token", "new", "ci", "--role", "viewer"]).await;
    let human = String::from_utf8(human.stdout).unwrap();
    let mut lines = human.lines();
    assert!(lines.next().unwrap().starts_with("opst_"));
    assert!(lines.next().unwrap().starts_with("ci viewer sha256:"));
    let wrong = peerstatus(&["token", "new", "c i", "--role", "viewer"]).await;
    assert_eq!(wrong.status.code(), Some(64));
    stage.server.stop().await;
}

#[tokio::test]
async fn nobody_can_use_up_the_streams_alone() {
    let stage = Stage::new(|_| {}).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut pools = stage.pools(&stage.ann.token);
        waiting.spawn(async move {
            let request =
                WaitForPoolRequest { name: "pools/default".into(), health: PoolHealth::Healthy.into() };
            pools.wait_for_pool(request).await
        });
    }
    // Three of them wait.
    let refused = within("a refusal", waiting.join_next()).await.unwrap().unwrap();
    assert_eq!(refusal(refused), (Code::ResourceExhausted, "STREAM_QUOTA".to_owned()));
    let watch = || WatchPeerStatusRequest::default();
    let watched = stage.listeners(&stage.ann.token).watch_peer_status(watch()).await;
    assert_eq!(refusal(watched.map(drop)), (Code::ResourceExhausted, "STREAM_QUOTA".to_owned()));
    let _others = stage.listeners(&stage.bob.token).watch_peer_status(watch()).await.unwrap();
    assert_eq!(waiting.len(), 3);
    waiting.shutdown().await;
    stage.server.stop().await;
}
