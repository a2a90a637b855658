//! The format of container runtimes: `2026-11-29T19:50:53.398046123Z stdout P text`. A line of the container that is long,
//! or that was written in pieces, is several parts: P, P, F. The parts of the two streams may be mixed.

use std::time::SystemTime;

use super::{LogLine, MAX_LINE, parse_rfc3339};

#[derive(Debug, Default)]
pub(super) struct Cri {
    stdout: Parts,
    stderr: Parts,
}

/// The parts so far of a line, and when the first of them was received.
#[derive(Debug, Default)]
struct Parts {
    received: Option<SystemTime>,
    text: Vec<u8>,
    is_cut: bool,
}

struct Framed<'a> {
    received: SystemTime,
    is_stderr: bool,
    is_partial: bool,
    text: &'a [u8],
}

impl Cri {
    pub(super) fn is_framed(line: &[u8]) -> bool {
        parse(line).is_some()
    }

    pub(super) fn push(&mut self, line: &[u8], is_cut: bool, lines: &mut Vec<LogLine>) {
        let Some(framed) = parse(line) else {
            // The runtime does not write it: damage.
            lines.push(LogLine { is_cut: true, ..LogLine::unframed(&String::from_utf8_lossy(line)) });
            return;
        };
        let parts = if framed.is_stderr { &mut self.stderr } else { &mut self.stdout };
        let received = *parts.received.get_or_insert(framed.received);
        let fitting = framed.text.get(..MAX_LINE.saturating_sub(parts.text.len())).unwrap_or(framed.text);
        parts.text.extend_from_slice(fitting);
        parts.is_cut |= is_cut || fitting.len() < framed.text.len();
        if framed.is_partial {
            return;
        }
        let whole = std::mem::take(parts);
        let line = LogLine { received: Some(received), is_cut: whole.is_cut, ..LogLine::parse(&whole.text) };
        // The script that starts the agent traces to stderr, where no text of peers goes.
        if !framed.is_stderr || line.origin.is_some() {
            lines.push(line);
        }
    }
}

fn parse(line: &[u8]) -> Option<Framed<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let received = parse_rfc3339(str::from_utf8(fields.next()?).ok()?)?;
    let is_stderr = match fields.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    // Tags are separated by ':'; the first is the only one that is defined.
    let is_partial = match fields.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Framed { received, is_stderr, is_partial, text: fields.next().unwrap_or_default() })
}
