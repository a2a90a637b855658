//! The JSON logs of the service.

use crate::support::{Process, sim};

#[tokio::test]
async fn a_transition_is_one_line_in_the_words_of_the_api() {
    let mut peer = sim();
    let name = peer.address().to_string();
    let args = ["serve", "--listen", "127.0.0.1:0", "--peer", &name];
    let mut process = Process::start_with_logs(&[], &args);
    let added = process.log("peer added").await;
    assert_eq!((added["pool"].as_str(), added["peer"].as_str()), (Some("default"), Some(&*name)));
    let ready = loop {
        let line = process.log("peer status").await;
        if line["to"] == "READY" {
            break line;
        }
    };
    for (key, value) in [
        ("level", "INFO"),
        ("pool", "default"),
        ("peer", &name),
        ("from", "CONNECTED"),
        ("reason", "HANDSHAKE_COMPLETE"),
        ("health", "HEALTHY"),
        ("origin", "CONFIGURED"),
    ] {
        assert_eq!(ready[key], value, "{key}: {ready}");
    }
    let health = process.log("pool health").await;
    assert_eq!((health["level"].as_str(), health["from"].as_str()), (Some("INFO"), Some("DOWN")));
    assert_eq!((health["to"].as_str(), health["cause"].as_str()), (Some("HEALTHY"), Some(&*name)));
    peer.stop().await;
    let lost = process.log("peer status").await;
    assert_eq!((lost["from"].as_str(), lost["to"].as_str()), (Some("READY"), Some("CONNECTING")));
    assert!(lost["detail"].is_string(), "{lost}");
    let health = process.log("pool health").await;
    assert_eq!((health["level"].as_str(), health["to"].as_str()), (Some("WARN"), Some("DOWN")));
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_peer_that_keeps_flapping_is_told_of_now_and_then() {
    let peer = sim();
    let name = peer.address().to_string();
    let args = ["serve", "--listen", "127.0.0.1:0", "--peer", &name];
    let mut process = Process::start_with_logs(&[], &args);
    for _ in 0..3 {
        while process.log("peer status").await["to"] != "READY" {}
        peer.drop_connections();
    }
    // It goes up and down for ten more seconds at most; what was not said is counted.
    let told = async {
        loop {
            let line = process.log("peer status").await;
            peer.drop_connections();
            if line["suppressed"].as_u64().is_some_and(|suppressed| suppressed > 0) {
                break;
            }
        }
    };
    let flap = async {
        loop {
            peer.drop_connections();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = flap => {}
    }
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}
