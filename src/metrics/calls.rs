//! Metrics of gRPC calls, with the names of go-grpc-prometheus.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// The codes of gRPC by number, in the spelling of its metrics.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
/// The code of a call whose client disconnects first.
const CANCELLED: usize = 1;
/// The code for unknown numbers.
const UNKNOWN: usize = 2;

/// Which side of a method streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MethodKind {
    /// Neither.
    #[default]
    Unary,
    /// The client.
    ClientStream,
    /// The server.
    ServerStream,
    /// Both.
    BidiStream,
}

impl MethodKind {
    /// Of a method with these streams.
    #[must_use]
    pub const fn of(client: bool, server: bool) -> Self {
        match (client, server) {
            (false, false) => Self::Unary,
            (true, false) => Self::ClientStream,
            (false, true) => Self::ServerStream,
            (true, true) => Self::BidiStream,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// The metrics of one method.
#[derive(Debug, Default)]
pub struct MethodMetrics {
    kind: MethodKind,
    service: String,
    name: String,
    started: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

impl MethodMetrics {
    fn new(kind: MethodKind, service: &str, name: &str) -> Arc<Self> {
        Arc::new(Self { kind, service: service.to_owned(), name: name.to_owned(), ..Self::default() })
    }

    /// Which side streams.
    #[must_use]
    pub const fn kind(&self) -> MethodKind {
        self.kind
    }

    /// Counts sent messages.
    pub fn sent(&self, messages: u64) {
        self.sent.fetch_add(messages, Relaxed);
    }

    /// Counts received messages.
    pub fn received(&self, messages: u64) {
        self.received.fetch_add(messages, Relaxed);
    }

    const fn labels(&self) -> [(&str, &str); 3] {
        [
            ("grpc_type", self.kind.as_str()),
            ("grpc_service", self.service.as_str()),
            ("grpc_method", self.name.as_str()),
        ]
    }
}

/// A call in progress. Dropping it counts its end: with the code that was set, or as cancelled.
#[derive(Debug)]
pub struct Call {
    method: Arc<MethodMetrics>,
    code: usize,
}

impl Call {
    /// Its method.
    #[must_use]
    pub const fn method(&self) -> &Arc<MethodMetrics> {
        &self.method
    }

    /// Sets the code that the client gets.
    pub fn code(&mut self, code: usize) {
        self.code = if code < CODES.len() { code } else { UNKNOWN };
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(handled) = self.method.handled.get(self.code) {
            handled.fetch_add(1, Relaxed);
        }
    }
}

/// The metrics of all methods.
#[derive(Debug)]
pub struct CallMetrics {
    /// By path.
    methods: BTreeMap<String, Arc<MethodMetrics>>,
    /// Unknown methods together, because clients can make up any number of them.
    other: Arc<MethodMetrics>,
}

impl CallMetrics {
    /// For these methods: service, name and kind.
    #[must_use]
    pub fn new<'a>(methods: impl IntoIterator<Item = (&'a str, &'a str, MethodKind)>) -> Arc<Self> {
        let entry =
            |(service, name, kind)| (format!("/{service}/{name}"), MethodMetrics::new(kind, service, name));
        let methods = methods.into_iter().map(entry).collect();
        Arc::new(Self { methods, other: MethodMetrics::new(MethodKind::Unary, "unknown", "unknown") })
    }

    /// Counts the start of a call.
    #[must_use]
    pub fn begin(&self, path: &str) -> Call {
        let method = self.methods.get(path).unwrap_or(&self.other);
        method.started.fetch_add(1, Relaxed);
        Call { method: Arc::clone(method), code: CANCELLED }
    }

    fn all(&self) -> impl Iterator<Item = &MethodMetrics> {
        self.methods.values().chain([&self.other]).map(|method| &**method)
    }

    fn each(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        number: impl Fn(&MethodMetrics) -> u64,
    ) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for method in self.all() {
            let labels = method.labels();
            let count = number(method);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

impl Collector for CallMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.each(&mut encoder, "grpc_server_started", "Calls that began.", |method| {
            method.started.load(Relaxed)
        })?;
        self.each(&mut encoder, "grpc_server_msg_received", "Messages from clients.", |method| {
            method.received.load(Relaxed)
        })?;
        self.each(&mut encoder, "grpc_server_msg_sent", "Messages to clients.", |method| {
            method.sent.load(Relaxed)
        })?;
        let help = "Calls that ended; with Canceled if the client disconnected first.";
        let mut family = encoder.encode_descriptor("grpc_server_handled", help, None, MetricType::Counter)?;
        for method in self.all() {
            for (number, code) in method.handled.iter().zip(CODES) {
                let count = number.load(Relaxed);
                // All codes of all methods would be hundreds of zeros. One is there, so that rates begin at zero.
                if count > 0 || code == "OK" {
                    let [kind, service, name] = method.labels();
                    let labels = [kind, service, name, ("grpc_code", code)];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn a_call_is_counted_when_it_begins_and_when_it_ends() {
        let methods = [("a.B", "Get", MethodKind::Unary), ("a.B", "Watch", MethodKind::ServerStream)];
        let calls = CallMetrics::new(methods);
        let mut get = calls.begin("/a.B/Get");
        get.method().received(1);
        get.method().sent(1);
        get.code(5);
        drop(get);
        drop(calls.begin("/a.B/Get"));
        let mut nonsense = calls.begin("/no/such\"path\n");
        nonsense.code(999);
        drop(nonsense);
        let watch = calls.begin("/a.B/Watch");
        watch.method().sent(3);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(calls));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let labels =
            |name: &str| format!("{{grpc_type=\"unary\",grpc_service=\"a.B\",grpc_method=\"{name}\"");
        for line in [
            format!("grpc_server_started_total{}}} 2", labels("Get")),
            format!("grpc_server_handled_total{},grpc_code=\"NotFound\"}} 1", labels("Get")),
            format!("grpc_server_handled_total{},grpc_code=\"Canceled\"}} 1", labels("Get")),
            format!("grpc_server_msg_received_total{}}} 1", labels("Get")),
            format!("grpc_server_msg_sent_total{}}} 1", labels("Get")),
            format!("grpc_server_msg_sent_total{}}} 3", labels("Watch").replace("unary", "server_stream")),
            format!(
                "grpc_server_handled_total{},grpc_code=\"Unknown\"}} 1",
                labels("unknown").replace("a.B", "unknown")
            ),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert!(!text.contains("such"), "{text}");
        drop(watch);
    }
}
