//! The clients, all in one thread: they read what they are sent, and note when it came.

mod brokers;
mod etcd;
mod grpc;
mod raw;

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Notify, task::JoinHandle, time::timeout};

pub(crate) use self::{
    brokers::{nats_hello, nats_publish, redis_publish},
    etcd::{publisher as etcd_publisher, put as etcd_put},
    grpc::stuck,
};
use super::support::Outcome;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// How clients and server speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Records of one length.
    Raw,
    /// The API's `WatchPeerStatus`.
    Watch,
    Redis,
    Nats,
    Etcd,
}

/// What all clients heard together.
#[derive(Default)]
pub(crate) struct Heard {
    /// Streams that are ready to hear of changes.
    ready: Cell<u64>,
    delivered: Cell<u64>,
    /// Microseconds from the publication of a change until a client had it. Empty during a burst.
    latencies: RefCell<Vec<u32>>,
    /// Whether to note latencies and look into each message: not during a burst.
    closely: Cell<bool>,
    /// Messages that did not follow on the one before.
    gaps: Cell<u64>,
    failed: RefCell<Option<String>>,
    news: Notify,
}

impl Heard {
    fn ready(&self) {
        self.ready.set(self.ready.get() + 1);
        self.news.notify_one();
    }

    fn delivered(&self, changes: u64) {
        self.delivered.set(self.delivered.get() + changes);
        self.news.notify_one();
    }

    /// A change that was published at that time, in nanoseconds since 1970.
    fn published_at(&self, then: u64) {
        if self.closely.get() {
            let micros = now().saturating_sub(then) / 1000;
            self.latencies.borrow_mut().push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }

    fn gap(&self) {
        self.gaps.set(self.gaps.get() + 1);
    }

    fn failed(&self, why: String) {
        self.failed.borrow_mut().get_or_insert(why);
        self.news.notify_one();
    }

    async fn until(&self, enough: impl Fn(&Self) -> bool) -> Outcome<()> {
        let wait = async {
            while !enough(self) {
                self.news.notified().await;
                if let Some(why) = &*self.failed.borrow() {
                    return Err(why.clone().into());
                }
            }
            Ok(())
        };
        match timeout(PATIENCE, wait).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("only {} deliveries within {PATIENCE:?}", self.delivered.get()).into()),
        }
    }
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Clients that are connected. They go when it is dropped.
pub(crate) struct Watchers {
    heard: Rc<Heard>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watchers {
    /// Opens connections, and so many streams on each. Returns when all of them are ready to hear of changes.
    pub(crate) async fn open(
        protocol: Protocol,
        address: SocketAddr,
        connections: usize,
        streams: usize,
    ) -> Outcome<Self> {
        let heard = Rc::new(Heard::default());
        heard.closely.set(true);
        let mut watchers = Self { heard, tasks: Vec::new() };
        watchers.add(protocol, address, connections, streams).await?;
        Ok(watchers)
    }

    /// Opens more.
    pub(crate) async fn add(
        &mut self,
        protocol: Protocol,
        address: SocketAddr,
        connections: usize,
        streams: usize,
    ) -> Outcome<()> {
        let heard = &self.heard;
        let goal = heard.ready.get() + u64::try_from(connections * streams)?;
        for number in 0..connections {
            let tasks = match protocol {
                Protocol::Raw => vec![raw::open(address, heard).await?],
                Protocol::Watch => grpc::open(address, streams, heard).await?,
                Protocol::Redis => vec![brokers::redis(address, heard).await?],
                Protocol::Nats => vec![brokers::nats(address, heard).await?],
                Protocol::Etcd => vec![etcd::open(address, heard).await?],
            };
            self.tasks.extend(tasks);
            // Not more at a time than a listen queue takes.
            if number % 64 == 63 {
                let sofar = goal - u64::try_from((connections - number - 1) * streams)?;
                heard.until(|heard| heard.ready.get() >= sofar).await?;
            }
        }
        heard.until(|heard| heard.ready.get() >= goal).await
    }

    /// How many streams there are.
    pub(crate) fn streams(&self) -> u64 {
        self.heard.ready.get()
    }

    /// Forgets what was heard until now. A burst is only counted.
    pub(crate) fn forget(&self, closely: bool) {
        self.heard.delivered.set(0);
        self.heard.latencies.borrow_mut().clear();
        self.heard.closely.set(closely);
    }

    /// Waits until so many changes have come, over all streams.
    pub(crate) async fn heard(&self, deliveries: u64) -> Outcome<()> {
        self.heard.until(|heard| heard.delivered.get() >= deliveries).await?;
        if self.heard.gaps.get() > 0 {
            return Err(format!("{} messages did not follow on the one before", self.heard.gaps.get()).into());
        }
        Ok(())
    }

    /// How long the changes took, in microseconds, shortest first.
    pub(crate) fn latencies(&self) -> Vec<u32> {
        let mut latencies = std::mem::take(&mut *self.heard.latencies.borrow_mut());
        latencies.sort_unstable();
        latencies
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
