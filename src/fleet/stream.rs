//! The stream of the fleet: made, or compared with what it should be.
//!
//! A node needs no permission for this. The fleet service does it when it starts, and a node only if `create_stream` is set.

use std::time::Duration;

use async_nats::jetstream::{
    Context, ErrorCode,
    context::{CreateStreamError, GetStreamError, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};

use super::{record::MAX_RECORD, subject::Subject};

/// For so long the stream remembers the ids of messages.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Longest message: a record, and its headers.
const MAX_MESSAGE: i32 = MAX_RECORD as i32 + 4096;

/// What the stream should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// Its name.
    pub name: String,
    /// How long it keeps a message.
    pub max_age: Duration,
    /// How many bytes it keeps.
    pub max_bytes: u64,
    /// On how many servers.
    pub replicas: usize,
}

/// The stream can be neither made nor looked at.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It cannot be looked at.
    #[error("cannot look at the stream {0:?}")]
    Get(String, #[source] GetStreamError),
    /// It cannot be made.
    #[error("cannot create the stream {0:?}")]
    Create(String, #[source] CreateStreamError),
}

impl StreamSettings {
    /// The configuration to create it with.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            name: self.name.clone(),
            subjects: vec![Subject::all()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_age: self.max_age,
            max_bytes: i64::try_from(self.max_bytes).unwrap_or(i64::MAX),
            num_replicas: self.replicas,
            duplicate_window: DUPLICATE_WINDOW,
            allow_direct: true,
            allow_message_ttl: true,
            max_message_size: MAX_MESSAGE,
            // Both, because the server allows the one with the other.
            subject_delete_marker_ttl: None,
            allow_rollup: false,
            ..Config::default()
        }
    }

    /// Creates the stream, unless there is one. Returns in words how that one differs from what it should be.
    ///
    /// # Errors
    /// JetStream does not allow it, or does not answer.
    pub async fn ensure(&self, jetstream: &Context) -> Result<Vec<String>, StreamError> {
        let name = || self.name.clone();
        match jetstream.get_stream(&self.name).await {
            Ok(stream) => return Ok(differences(&self.config(), &stream.cached_info().config)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                }
                _ => return Err(StreamError::Get(name(), error)),
            },
        }
        // Another one may create it at the same time, with the same configuration.
        let created = jetstream.create_stream(self.config()).await;
        created.map(|_| Vec::new()).map_err(|error| StreamError::Create(name(), error))
    }
}

/// How the stream differs from what it should be, a sentence for each difference that matters.
#[must_use]
pub fn differences(wanted: &Config, found: &Config) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut compare = |key: &str, wanted: String, found: String| {
        if wanted != found {
            sentences.push(format!("{key} is {found}, and should be {wanted}"));
        }
    };
    macro_rules! compare {
        ($($key:ident),+) => { $(compare(stringify!($key), format!("{:?}", wanted.$key), format!("{:?}", found.$key));)+ };
    }
    compare!(subjects, retention, discard, max_age, max_bytes, num_replicas, allow_direct, allow_message_ttl);
    if found.allow_rollup {
        sentences.push(
            "allow_rollup_hdrs is set, perhaps because subject_delete_marker_ttl is: a node could delete the records of all \
             others; unset both, as docs/fleet.md says"
                .into(),
        );
    }
    if !(1..=wanted.max_message_size).contains(&found.max_message_size) {
        sentences.push(format!(
            "max_msg_size is {}, and should be {}: a node could fill the stream with messages that are no records",
            found.max_message_size, wanted.max_message_size
        ));
    }
    if found.duplicate_window < wanted.duplicate_window {
        sentences.push(format!(
            "duplicate_window is {:?}, and should be at least {:?}: a record that is sent again may be stored twice",
            found.duplicate_window, wanted.duplicate_window
        ));
    }
    if found.max_messages_per_subject > 0 || found.max_messages > 0 {
        let reason = "a limit on messages drops changes that readers have not seen: remove max_msgs and max_msgs_per_subject";
        sentences.push(reason.into());
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> StreamSettings {
        let day = Duration::from_secs(86_400);
        StreamSettings { name: "OPFLEX".into(), max_age: day, max_bytes: 1 << 30, replicas: 3 }
    }

    #[test]
    fn a_stream_as_it_was_created_does_not_differ() {
        let config = settings().config();
        assert_eq!(differences(&config, &config), Vec::<String>::new());
        // Numbers that mean "no limit".
        let unlimited = Config { max_messages: -1, max_messages_per_subject: -1, ..config.clone() };
        assert_eq!(differences(&config, &unlimited), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named() {
        let wanted = settings().config();
        let found = Config {
            num_replicas: 1,
            discard: DiscardPolicy::New,
            allow_message_ttl: false,
            allow_rollup: true,
            max_message_size: -1,
            duplicate_window: Duration::from_secs(1),
            max_messages_per_subject: 1,
            ..wanted.clone()
        };
        let found = differences(&wanted, &found);
        let begins = [
            "discard is New, and should be Old",
            "num_replicas is 1, and should be 3",
            "allow_message_ttl is false, and should be true",
            "allow_rollup_hdrs is set",
            "max_msg_size is -1, and should be 69632",
            "duplicate_window is 1s, and should be at least 120s",
            "a limit on messages",
        ];
        assert_eq!(found.len(), begins.len(), "{found:?}");
        assert!(found.iter().zip(begins).all(|(found, begins)| found.starts_with(begins)), "{found:?}");
    }
}
