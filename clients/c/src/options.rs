//! Settings of listeners. They are the caller's objects, and the environment is the default of each.

use std::{collections::HashMap, env, path::Path};

use opflex_peerstatus::{
    client::{ConnectOptions, ServerAddress},
    pb::ListenerFilter,
};
use parking_lot::Mutex;

use crate::Failure;

/// Where the service's socket is in its documentation, its chart and its unit for systemd.
const DEFAULT_SOCKET: &str = "/run/peerstatus/peerstatus.sock";
/// Where the service listens by default.
const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// The settings of a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    server: Option<ServerAddress>,
    /// By the names of the client's settings.
    texts: HashMap<&'static str, String>,
    filter: ListenerFilter,
}

/// The objects that callers have, by their handles.
static ALL: Mutex<Option<HashMap<usize, Options>>> = Mutex::new(None);

/// Creates settings, and returns their handle.
pub(crate) fn create() -> usize {
    let handle = crate::listener::next_handle();
    ALL.lock().get_or_insert_default().insert(handle, Options::default());
    handle
}

/// A copy of the settings.
pub(crate) fn get(handle: usize) -> Result<Options, Failure> {
    ALL.lock().get_or_insert_default().get(&handle).cloned().ok_or_else(no_options)
}

/// Changes settings.
pub(crate) fn change(
    handle: usize,
    value: String,
    change: impl FnOnce(&mut Options, String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut all = ALL.lock();
    change(all.get_or_insert_default().get_mut(&handle).ok_or_else(no_options)?, value)
}

/// Destroys settings. Listeners that were created with them have their own copy.
pub(crate) fn destroy(handle: usize) -> Result<(), Failure> {
    ALL.lock().get_or_insert_default().remove(&handle).map(drop).ok_or_else(no_options)
}

fn no_options() -> Failure {
    Failure::invalid("options is NULL, or was destroyed")
}

impl Options {
    pub(crate) fn set_server(&mut self, value: String) -> Result<(), Failure> {
        self.server = Some(address("server", &value)?);
        Ok(())
    }

    pub(crate) fn set_text(&mut self, name: &'static str, value: String) -> Result<(), Failure> {
        if value.is_empty() {
            return Err(Failure::invalid(format!("{name} is empty")));
        }
        self.texts.insert(name, value);
        Ok(())
    }

    pub(crate) fn add_pool(&mut self, value: String) -> Result<(), Failure> {
        self.filter.pools.push(value);
        Ok(())
    }

    pub(crate) fn add_peer(&mut self, value: String) -> Result<(), Failure> {
        self.filter.peers.push(value);
        Ok(())
    }

    /// What to connect to, and how; the environment is the default.
    pub(crate) fn connection(&self) -> Result<ConnectOptions, Failure> {
        let server = match (&self.server, environment("PEERSTATUS_SERVER")) {
            (Some(server), _) => server.clone(),
            (None, Some(value)) => address("PEERSTATUS_SERVER", &value)?,
            (None, None) if Path::new(DEFAULT_SOCKET).exists() => ServerAddress::Unix(DEFAULT_SOCKET.into()),
            (None, None) => address("server", DEFAULT_ADDRESS)?,
        };
        let text = |name, variable| self.texts.get(name).cloned().or_else(|| environment(variable));
        let mut options = ConnectOptions::new(server);
        options.tls_ca = text("tls-ca", "PEERSTATUS_TLS_CA").map(Into::into);
        options.tls_cert = text("tls-cert", "PEERSTATUS_TLS_CERT").map(Into::into);
        options.tls_key = text("tls-key", "PEERSTATUS_TLS_KEY").map(Into::into);
        options.tls_server_name = text("tls-server-name", "PEERSTATUS_TLS_SERVER_NAME");
        options.token_file = text("token-file", "PEERSTATUS_TOKEN_FILE").map(Into::into);
        options.user_agent = concat!("libopflex-peerstatus/", env!("CARGO_PKG_VERSION")).to_owned();
        options.check().map_err(|error| Failure::invalid(error.to_string()))?;
        Ok(options)
    }

    /// What to watch.
    pub(crate) fn filter(&self) -> ListenerFilter {
        self.filter.clone()
    }
}

/// A variable that is set, and not empty.
fn environment(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn address(name: &str, value: &str) -> Result<ServerAddress, Failure> {
    value.parse().map_err(|error| Failure::invalid(format!("{name}: {value:?}: {error}")))
}
