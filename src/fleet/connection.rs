//! The connection to NATS, which both sides of the fleet use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{Context, context::ContextBuilder},
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use super::auth::AuthSource;
use crate::tls::ClientTls;

/// How long to wait for a connection, and for each answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is lost when two of these pings have no answer.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a client that has lost its only connection waits, before it gives up. By then its successor has published what it
/// still has in its queue.
const LAST_DELAY: Duration = Duration::from_secs(30);
/// Messages of a subscription that are kept until they are read. One that is lost is logged.
const SUBSCRIPTION_CAPACITY: usize = 256;
/// The same where the reader asks for messages: for more than it asks for at once, whose bytes are limited there.
const READ_CAPACITY: usize = 4096;
/// Commands that the client keeps for its connection: more than there can be unacknowledged records.
const CLIENT_CAPACITY: usize = 512;

/// How to connect to NATS.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// Any of these.
    pub servers: Vec<ServerAddr>,
    /// The credentials; `None`: without.
    pub auth: Option<AuthSource>,
    /// `None`: plaintext, unless a server asks for TLS or its URL has the scheme `tls`.
    pub tls: Option<Arc<ClientTls>>,
    /// The name of the client, for the server's reports.
    pub name: String,
    /// The beginning of the subjects to which answers come. The client subscribes to nothing else.
    pub inbox: String,
}

/// There is no connection to NATS.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The client could not be made.
    #[error("cannot connect to NATS at {servers}")]
    Connect {
        /// As `HOST:PORT, HOST:PORT`.
        servers: Arc<str>,
        /// Why.
        source: async_nats::ConnectError,
    },
}

/// Whether there is a connection, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// Whether there is one now.
    pub is_connected: bool,
    /// How many there have been.
    pub count: u64,
    /// Whether NATS refuses a subscription to subjects of the fleet.
    pub is_subscription_refused: bool,
}

/// A client that connects by itself, again and again. Its task ends when all clones of `client` and `jetstream` are
/// dropped.
#[derive(Clone, Debug)]
pub struct Nats {
    /// For core NATS.
    pub client: Client,
    /// For JetStream. A publish or a request fails after [`ANSWER_TIMEOUT`].
    pub jetstream: Context,
    /// Whether there is a connection.
    pub state: watch::Receiver<ConnectionState>,
    /// The servers, as `HOST:PORT, HOST:PORT`, for logs.
    pub servers: Arc<str>,
}

impl Nats {
    /// Begins to connect, and returns at once.
    ///
    /// # Errors
    /// The addresses are malformed.
    pub async fn connect(settings: NatsSettings) -> Result<Self, ConnectError> {
        let set = |options: ConnectOptions| options.retry_on_initial_connect().max_reconnects(None);
        Self::connect_with(settings, |options| set(options).subscription_capacity(READ_CAPACITY)).await
    }

    /// Connects once, and gets no messages that it publishes itself. After the loss of its connection, a client sends to the next one what is in its queue, without what was
    /// lost with the connection. To publish in order takes a new client for each connection.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn connect_once(settings: NatsSettings) -> Result<Self, ConnectError> {
        let attempts = settings.servers.len();
        let had_connection = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&had_connection);
        let nats = Self::connect_with(settings, |options| {
            let options = options.subscription_capacity(SUBSCRIPTION_CAPACITY).no_echo();
            options.max_reconnects(attempts).reconnect_delay_callback(move |_| {
                if is_over.load(Ordering::Acquire) { LAST_DELAY } else { Duration::ZERO }
            })
        });
        let nats = nats.await?;
        had_connection.store(true, Ordering::Release);
        Ok(nats)
    }

    async fn connect_with(
        settings: NatsSettings,
        set: impl FnOnce(ConnectOptions) -> ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let NatsSettings { servers, auth, tls, name, inbox } = settings;
        let (changes, state) = watch::channel(ConnectionState::default());
        let addresses: Vec<_> =
            servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        let addresses: Arc<str> = addresses.join(", ").into();
        let events = Arc::new(Events { changes, last: Mutex::default(), servers: Arc::clone(&addresses) });
        let mut options = set(auth.map_or_else(ConnectOptions::new, AuthSource::into_options));
        if let Some(tls) = tls {
            options = options.tls_client_config((*tls.config()).clone()).require_tls(true);
        }
        let client = options
            .name(name)
            .custom_inbox_prefix(inbox)
            .connection_timeout(ANSWER_TIMEOUT)
            .request_timeout(Some(ANSWER_TIMEOUT))
            .ping_interval(PING_INTERVAL)
            .client_capacity(CLIENT_CAPACITY)
            .event_callback(move |event| {
                events.handle(&event);
                std::future::ready(())
            })
            .connect(servers)
            .await
            .map_err(|source| ConnectError::Connect { servers: Arc::clone(&addresses), source })?;
        let jetstream =
            ContextBuilder::new().timeout(ANSWER_TIMEOUT).ack_timeout(ANSWER_TIMEOUT).build(client.clone());
        Ok(Self { client, jetstream, state, servers: addresses })
    }
}

/// Logs what happens to the connection, each thing once in a row.
struct Events {
    changes: watch::Sender<ConnectionState>,
    last: Mutex<String>,
    servers: Arc<str>,
}

impl Events {
    fn handle(&self, event: &Event) {
        match event {
            Event::Connected => self.changes.send_modify(|state| {
                state.is_connected = true;
                state.count += 1;
            }),
            Event::Disconnected | Event::Closed => {
                self.changes.send_modify(|state| state.is_connected = false);
            }
            _ => {}
        }
        let text = event.to_string();
        if is_refused_subscription(&text) {
            // The forwarder, which made it, does without, and says so.
            return self.changes.send_modify(|state| state.is_subscription_refused = true);
        }
        if std::mem::replace(&mut *self.last.lock(), text.clone()) == text {
            return;
        }
        match event {
            Event::Connected => info!(servers = %self.servers, "connected to NATS"),
            _ => warn!(servers = %self.servers, "NATS: {text}"),
        }
    }
}

/// Whether the error of a server is about the subscription to subjects of the fleet.
fn is_refused_subscription(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("permissions violation for subscription to \"opflex.")
}
