//! Where a watch's messages go: lines for people or JSON for machines on one output, notices on the other.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::SystemTime,
};

use crate::{
    api::pb::WatchPeerStatusResponse,
    cli::{
        exit::Failure,
        json,
        style::{self, Style},
        text,
        watch::{notice::Notice, renderer::Renderer},
    },
};

/// How messages are written.
#[derive(Debug)]
pub enum Form {
    /// For people.
    Human(Renderer),
    /// One proto3-JSON object a line.
    Json,
}

/// Writes messages and notices, each at once.
pub struct Printer {
    form: Form,
    messages: Box<dyn Write + Send>,
    notices: Box<dyn Write + Send>,
    notice_style: Style,
    hear: Hear,
}

/// Somebody who hears every message after it is written.
type Hear = Box<dyn FnMut(&WatchPeerStatusResponse) -> Result<(), Failure> + Send>;

impl Printer {
    /// Messages to stdout in this form, notices to stderr in this style.
    #[must_use]
    pub fn new(form: Form, notice_style: Style) -> Self {
        Self::to(form, Box::new(io::stdout()), Box::new(io::stderr()), notice_style)
    }

    /// The same with other outputs.
    #[must_use]
    pub fn to(
        form: Form,
        messages: Box<dyn Write + Send>,
        notices: Box<dyn Write + Send>,
        notice_style: Style,
    ) -> Self {
        Self { form, messages, notices, notice_style, hear: Box::new(|_| Ok(())) }
    }

    /// The same, and `hear` is told of every message when it has been written.
    #[must_use]
    pub fn heard_by(
        self,
        hear: impl FnMut(&WatchPeerStatusResponse) -> Result<(), Failure> + Send + 'static,
    ) -> Self {
        Self { hear: Box::new(hear), ..self }
    }

    /// Writes a message.
    ///
    /// # Errors
    /// The output is closed or cannot be written, or whoever hears it says so.
    pub fn message(&mut self, message: &WatchPeerStatusResponse) -> Result<(), Failure> {
        let mut output = String::new();
        match &mut self.form {
            Form::Human(renderer) => {
                for line in renderer.render(message, SystemTime::now()) {
                    let _ = writeln!(output, "{line}");
                }
            }
            Form::Json => output = json::line(message)? + "\n",
        }
        if !output.is_empty() {
            self.messages.write_all(output.as_bytes())?;
            self.messages.flush()?;
        }
        (self.hear)(message)
    }

    /// Writes a notice. Nobody has to listen to it.
    pub fn notice(&mut self, notice: &Notice) {
        let line = self.notice_style.paint(style::NOTICE, &text::plain(&format!("watch: {notice}")));
        let _ = writeln!(self.notices, "{line}");
    }
}
