//! Whose listeners there are: how many each may have, and who gets to see them.

use super::*;

fn of(owner: &str) -> ListenerSpec {
    let owner = Owner { name: owner.into(), quota: Quota::Limited };
    ListenerSpec { owner, idle_ttl: Some(TTL), ..ListenerSpec::default() }
}

fn own(owner: &str) -> ListenerScope {
    ListenerScope::Own(owner.into())
}

fn some_listeners() -> Arc<Listeners> {
    Listeners::new(hub(64), ListenerLimits { listeners: 99, per_owner: 2, streams: 99, streams_per_owner: 2 })
}

#[tokio::test(start_paused = true)]
async fn however_a_listener_goes_its_owner_may_have_another() {
    let listeners = some_listeners();
    let full = CreateError::OwnerQuota { owner: "a".into(), limit: 2 };
    listeners.create(Some("kept"), of("a")).unwrap();
    let create = || listeners.create(Some("other"), of("a")).map(drop);
    create().unwrap();
    assert_eq!(listeners.create(None, of("a")).unwrap_err(), full);
    listeners.create(None, of("b")).expect("nobody else is kept from it");
    // Destroyed.
    listeners.destroy("other", &own("a")).unwrap();
    create().unwrap();
    // Expired, while the other one is watched.
    let watch = listeners.attach("kept", options()).unwrap();
    assert_eq!(listeners.expire(Instant::now() + TTL * 2), 2, "and that of b");
    create().unwrap();
    assert_eq!(listeners.create(None, of("a")).unwrap_err(), full);
    listeners.destroy("other", &own("a")).unwrap();
    drop(watch);
    // Ephemeral, and gone with its stream.
    let stream = listeners.attach_ephemeral(of("a"), options()).unwrap();
    assert_eq!(create().unwrap_err(), full);
    drop(stream);
    create().unwrap();
    assert_eq!(create().unwrap_err(), CreateError::Exists, "which takes no place");
    listeners.destroy("other", &ListenerScope::All).unwrap();
    create().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_is_exempt_may_have_all() {
    let listeners = some_listeners();
    let owner = Owner { name: "local".into(), quota: Quota::Exempt };
    for _ in 0..9 {
        let spec = ListenerSpec { owner: owner.clone(), idle_ttl: Some(TTL), ..ListenerSpec::default() };
        listeners.create(None, spec).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_of_another_is_not_there() {
    let listeners = some_listeners();
    for (id, owner) in [("1", "a"), ("2", "b"), ("3", "a")] {
        listeners.create(Some(id), of(owner)).unwrap();
    }
    let ids = |after, max, scope: &ListenerScope| -> Vec<String> {
        listeners.list(after, max, scope).iter().map(|view| view.listener.id.to_string()).collect()
    };
    assert_eq!(ids(None, 9, &ListenerScope::All), ["1", "2", "3"]);
    assert_eq!(ids(None, 2, &own("a")), ["1", "3"], "a page is full of what may be seen");
    assert_eq!(ids(Some("1"), 9, &own("b")), ["2"]);
    assert_eq!(ids(None, 9, &own("")), [""; 0]);
    assert_eq!(listeners.get("1", &own("b")).unwrap_err(), ListenerError);
    assert_eq!(listeners.destroy("1", &own("b")), Err(ListenerError));
    for takeover in [false, true] {
        let options = AttachOptions { takeover, scope: own("b"), ..options() };
        assert_eq!(listeners.attach("1", options).err().unwrap(), AttachError::NotFound);
    }
    assert!(listeners.get("1", &own("a")).is_ok() && listeners.get("1", &ListenerScope::All).is_ok());
}

#[test]
fn streams_and_calls_that_wait_of_one_principal_have_a_limit() {
    let listeners = some_listeners();
    let [a, b] = ["a", "b"].map(|name| Owner { name: name.into(), quota: Quota::Limited });
    let full = |limit| Some(AttachError::OwnerStreams { owner: "a".into(), limit });
    let waiting = [(); 2].map(|()| listeners.stream_permit(&a).unwrap());
    assert_eq!(listeners.stream_permit(&a).err(), full(2));
    let watch = |caller: &Owner| AttachOptions { caller: caller.clone(), ..options() };
    assert_eq!(listeners.attach_ephemeral(of("a"), watch(&a)).err(), full(2));
    // Whose listener it is does not matter.
    listeners.create(Some("of-b"), of("b")).unwrap();
    assert_eq!(listeners.attach("of-b", watch(&a)).err(), full(2));
    let watches = [(); 2].map(|()| listeners.attach_ephemeral(ListenerSpec::default(), watch(&b)).unwrap());
    let exempt = Owner { name: "local".into(), quota: Quota::Exempt };
    let others = [(); 9].map(|()| listeners.stream_permit(&exempt).unwrap());
    drop(waiting);
    drop(listeners.attach("of-b", watch(&a)).unwrap());
    assert_eq!(listeners.count().1, 11);
    drop((watches, others));
    let _again = [(); 2].map(|()| listeners.stream_permit(&a).unwrap());
}
