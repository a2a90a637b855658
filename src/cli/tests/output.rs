//! An output whose text can be seen afterwards, and whose writes can be waited for.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use crate::cli::{notices::Notices, watch::printer::Printer};

#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>, Arc<Notify>);

impl Shared {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The text so far, which is then forgotten.
    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }

    pub(crate) async fn until(&self, text: &str) {
        while !self.text().contains(text) {
            self.1.notified().await;
        }
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.lock().unwrap().write(bytes);
        self.1.notify_one();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A printer of a watch, the messages that it prints in JSON, and its notices.
pub(crate) fn json_printer() -> (Printer, Shared, Shared) {
    let (messages, notices) = (Shared::default(), Shared::default());
    let printer = Printer::json(messages.clone(), Notices::to(notices.clone()));
    (printer, messages, notices)
}
