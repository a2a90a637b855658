//! Where a watch writes: messages to one output, as lines for people or as JSON, and notices to the other.

use std::io::{self, Write};

use crate::{
    api::{json, pb::WatchPeerStatusResponse},
    cli::{
        self, GlobalArgs,
        exit::Failure,
        notices::Notices,
        service_clock,
        style::{self, Style},
        watch::{follow::Sink, notice, renderer::Renderer},
    },
    client::Notice,
};

/// Writes messages and notices, each at once.
pub(crate) struct Printer {
    /// For people; without it messages are JSON.
    renderer: Option<Renderer>,
    messages: Box<dyn Write + Send>,
    notices: Notices,
}

impl Printer {
    /// Messages to stdout, notices to stderr.
    pub(crate) fn new(globals: &GlobalArgs, until_synced: bool) -> Self {
        let renderer = || Renderer::new(Style::of_stdout(globals.color), until_synced);
        let renderer = (globals.output == cli::Output::Human).then(renderer);
        Self { renderer, messages: Box::new(io::stdout()), notices: globals.notices() }
    }

    /// Messages as JSON.
    #[cfg(test)]
    pub(crate) fn json(messages: impl Write + Send + 'static, notices: Notices) -> Self {
        Self { renderer: None, messages: Box::new(messages), notices }
    }

    fn write(&mut self, lines: &[String]) -> Result<(), Failure> {
        if !lines.is_empty() {
            self.messages.write_all((lines.join("\n") + "\n").as_bytes())?;
            self.messages.flush()?;
        }
        Ok(())
    }
}

impl Sink for Printer {
    fn message(&mut self, message: &WatchPeerStatusResponse) -> Result<(), Failure> {
        let lines = match &mut self.renderer {
            Some(renderer) => {
                renderer.style.columns = style::terminal_columns(); // it may have changed
                renderer.render(message, service_clock::now())
            }
            None => vec![json::line(message)?],
        };
        self.write(&lines)
    }

    fn notice(&mut self, notice: &Notice) {
        self.notices.print(&format!("watch: {}", notice::text(notice)));
    }

    fn tick(&mut self, is_end: bool) -> Result<(), Failure> {
        let folded = self.renderer.as_mut().map(|renderer| renderer.tick(service_clock::now(), is_end));
        self.write(&folded.unwrap_or_default())
    }
}
