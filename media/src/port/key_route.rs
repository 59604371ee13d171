//! Passing keys from one port to another while they are held.

use crate::dtmf::PressLog;
use crate::port::Port;

/// A route of keys from one source to the sink that keeps it.
#[derive(Debug)]
pub struct KeyRoute {
    /// Key of the source in the reactor.
    pub source: usize,
    /// The next press to pass on.
    next: u64,
    /// The press that is being passed on.
    held: Option<u64>,
}

impl KeyRoute {
    /// A route for the presses that begin from now on.
    #[must_use]
    pub fn new(source: usize, log: &PressLog) -> Self {
        Self { source, next: log.begun() + 1, held: None }
    }

    /// Passes on what has happened at the source since the last call.
    pub fn pass(&mut self, log: &PressLog, sink: &mut Port) {
        for press in log.since(self.next) {
            if self.held != Some(press.number) {
                sink.press_key(press.key);
                self.held = Some(press.number);
            }
            if press.ended {
                sink.release_key(press.duration_ms);
                self.held = None;
                self.next = press.number + 1;
            }
        }
    }

    /// Ends what is being passed on.
    pub fn end(&mut self, sink: &mut Port) {
        if self.held.take().is_some() {
            sink.release_key(0);
        }
    }
}
