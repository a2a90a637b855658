//! Notices of a command about its progress: lines on stderr, apart from its output.

use std::io::{self, Write};

use clap::ColorChoice;

use crate::cli::{
    style::{self, Style},
    text,
};

/// Writes notices, each at once.
pub(crate) struct Notices {
    output: Box<dyn Write + Send>,
    style: Style,
}

impl Notices {
    /// To stderr.
    pub(crate) fn new(colour: ColorChoice) -> Self {
        let output = io::stderr();
        Self { style: Style::of(colour, &output), output: Box::new(output) }
    }

    /// To another output, without colour.
    #[cfg(test)]
    pub(crate) fn to(output: impl Write + Send + 'static) -> Self {
        Self { style: Style::default(), output: Box::new(output) }
    }

    /// Writes a line. A closed stderr is no failure.
    pub(crate) fn print(&mut self, line: &str) {
        let _ = writeln!(self.output, "{}", self.style.paint(style::NOTICE, &text::plain(line)));
    }
}
