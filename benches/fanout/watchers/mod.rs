//! The clients, all in one thread: they read messages and record latencies.

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

/// Timeout of each step.
const PATIENCE: Duration = Duration::from_secs(300);

/// The protocol between clients and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Fixed-length records.
    Raw,
    /// The API's `WatchPeerStatus`.
    Watch,
    Redis,
    Nats,
    Etcd,
}

/// Counters of all clients.
#[derive(Default)]
pub(crate) struct Heard {
    /// Streams that are ready for changes.
    ready: Cell<u64>,
    delivered: Cell<u64>,
    /// Microseconds from the publication of a change to its receipt. Empty during a burst.
    latencies: RefCell<Vec<u32>>,
    /// Whether to record latencies and check each message; not during a burst.
    closely: Cell<bool>,
    /// Messages that do not continue the chain of revisions.
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

    /// Records a change by its publication time, in nanoseconds since 1970.
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

/// Connected clients, closed when dropped.
pub(crate) struct Watchers {
    heard: Rc<Heard>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watchers {
    /// Opens connections with this many streams each. Returns when all are ready for changes.
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

    /// Opens further connections.
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
            // At most the listen backlog at a time.
            if number % 64 == 63 {
                let sofar = goal - u64::try_from((connections - number - 1) * streams)?;
                heard.until(|heard| heard.ready.get() >= sofar).await?;
            }
        }
        heard.until(|heard| heard.ready.get() >= goal).await
    }

    /// Number of streams.
    pub(crate) fn streams(&self) -> u64 {
        self.heard.ready.get()
    }

    /// Resets the counters. In a burst, messages are only counted.
    pub(crate) fn forget(&self, closely: bool) {
        self.heard.delivered.set(0);
        self.heard.latencies.borrow_mut().clear();
        self.heard.closely.set(closely);
    }

    /// Waits for this many changes over all streams.
    pub(crate) async fn heard(&self, deliveries: u64) -> Outcome<()> {
        self.heard.until(|heard| heard.delivered.get() >= deliveries).await?;
        if self.heard.gaps.get() > 0 {
            return Err(format!("{} messages did not follow on the one before", self.heard.gaps.get()).into());
        }
        Ok(())
    }

    /// Latencies in microseconds, sorted.
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
