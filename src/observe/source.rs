//! Where the agent's log is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const JOURNALD: &str = "journald:";

/// Where the agent's log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LogSource {
    /// A file, or all files that a glob matches, such as those of the agent's container.
    Files(String),
    /// The journal's entries of a unit.
    Journal(String),
}

/// It is neither.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place of a log: give an absolute path, in which * and ? stand for any characters, or journald:UNIT"
)]
pub struct SourceError(String);

impl FromStr for LogSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let is_plain = !text.contains(char::is_control);
        match text.strip_prefix(JOURNALD) {
            Some(unit) if is_unit(unit) => Ok(Self::Journal(unit.to_owned())),
            None if text.starts_with('/') && !text.ends_with('/') && is_plain => {
                Ok(Self::Files(text.to_owned()))
            }
            _ => Err(SourceError(text.to_owned())),
        }
    }
}

/// As systemd allows. It becomes an argument of journalctl.
fn is_unit(unit: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    !unit.is_empty() && unit.len() < 256 && !unit.starts_with('-') && unit.chars().all(is_allowed)
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path) => f.write_str(path),
            Self::Journal(unit) => write!(f, "{JOURNALD}{unit}"),
        }
    }
}

impl TryFrom<String> for LogSource {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<LogSource> for String {
    fn from(source: LogSource) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_in_files_or_in_the_journal() {
        let files = |path: &str| Ok(LogSource::Files(path.into()));
        let pods = "/var/log/pods/aci-containers-system_*/opflex-agent/*.log";
        assert_eq!(pods.parse(), files(pods));
        assert_eq!(
            "journald:opflex-agent.service".parse(),
            Ok(LogSource::Journal("opflex-agent.service".into()))
        );
        for text in
            ["", "agent.log", "journald", "journald:", "journald:-x", "journald:a b", "/var/log/", "/a\nb"]
        {
            assert_eq!(text.parse::<LogSource>(), Err(SourceError(text.into())), "{text}");
        }
    }
}
