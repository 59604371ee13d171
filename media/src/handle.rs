//! The engine as the application holds it: commands go in, events come out.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::disk::Disk;
use crate::event::{
    Command, Connection, Event, PlayId, PortId, RecognitionId, RecordingId, TapId, WakingQueue,
};
use crate::figures::Figures;
use crate::loader;
use crate::reactor::faults::watched;
use crate::reactor::{Reactor, Shared};
use crate::secure::dtls::Identity;
use crate::socket::{PortNumbers, PortSockets};
use crate::tone::Tone;
use crate::wav::Form;

/// Where RTP ports are taken from.
#[derive(Clone, Copy, Debug)]
pub struct PortRange {
    /// First number.
    pub first: u16,
    /// Last number, included.
    pub last: u16,
    /// How long a number rests after its call.
    pub quarantine: Duration,
}

/// A running engine; dropping it shuts it down.
#[derive(Debug)]
pub struct EngineHandle {
    shared: Shared,
    last_id: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Why no port could be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Every number is in use or rests.
    Exhausted,
    /// The system refuses, as for an address that is not ours.
    System(io::Error),
}

impl EngineHandle {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread, an eventfd or epoll.
    pub fn start(range: PortRange) -> io::Result<Self> {
        let shared = Self::share(range)?;
        let disk = Disk::start(shared.events.clone())?;
        Self::start_with(shared, disk)
    }

    fn share(range: PortRange) -> io::Result<Shared> {
        let numbers = PortNumbers::new(range.first, range.last, range.quarantine);
        Ok(Shared {
            commands: WakingQueue::new()?,
            events: WakingQueue::new()?,
            figures: Arc::new(Figures::default()),
            waiting_pieces: Arc::new(AtomicUsize::new(0)),
            numbers: Arc::new(Mutex::new(numbers)),
            identity: Arc::new(Identity::generate()?),
        })
    }

    fn start_with(shared: Shared, disk: (Disk, [JoinHandle<()>; 2])) -> io::Result<Self> {
        let (disk, [writing, finishing]) = disk;
        let (loads, loading) = loader::start(shared.commands.clone())?;
        let reactor = Reactor::new(shared.clone(), loads, disk)?;
        let events = shared.events.clone();
        let reacting = thread::Builder::new()
            .name("media-reactor".into())
            .spawn(move || watched(&events, || reactor.run()))?;
        let threads = Mutex::new(vec![reacting, loading, writing, finishing]);
        Ok(Self { shared, last_id: AtomicU64::new(0), threads })
    }

    /// Binds the next free even port of `local_ip`, and the odd one of its RTCP.
    ///
    /// # Errors
    /// When none is free or the address is not ours.
    pub fn open_port(&self, local_ip: IpAddr) -> Result<(PortId, u16), OpenError> {
        let mut numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = numbers.take(clock::now()).ok_or(OpenError::Exhausted)?;
        let mut attempts = numbers.free_count();
        let sockets = loop {
            match PortSockets::bind(local_ip, number) {
                Ok(sockets) => break sockets,
                Err(error) => {
                    numbers.give_back(number);
                    if error.kind() != io::ErrorKind::AddrInUse {
                        return Err(OpenError::System(error));
                    }
                }
            }
            attempts = attempts.checked_sub(1).ok_or(OpenError::Exhausted)?;
            number = numbers.take(clock::now()).ok_or(OpenError::Exhausted)?;
        };
        let id = PortId(self.next_id());
        self.send(Command::Open(id, sockets));
        Ok((id, number))
    }

    /// Queues a command; after a shutdown it is not obeyed any more.
    pub fn send(&self, command: Command) {
        self.shared.commands.push(command);
    }

    /// Sets what was negotiated for a port.
    pub fn connect(&self, port: PortId, connection: Connection) {
        self.send(Command::Connect(port, connection));
    }

    /// Plays files.
    pub fn play(&self, port: PortId, paths: Vec<PathBuf>, looped: bool) -> PlayId {
        let play = PlayId(self.next_id());
        self.send(Command::Play(port, play, paths, looped));
        play
    }

    /// Plays a tone.
    pub fn play_tone(&self, port: PortId, tone: Tone, looped: bool) -> PlayId {
        let play = PlayId(self.next_id());
        self.send(Command::PlayTone(port, play, tone, looped));
        play
    }

    /// Listens for known sounds until one of them is recognised.
    pub fn recognise(&self, port: PortId, sounds: Vec<PathBuf>) -> RecognitionId {
        let recognition = RecognitionId(self.next_id());
        self.send(Command::Recognise(port, recognition, sounds));
        recognition
    }

    /// Records ports, those of a side mixed; without a right side on one channel.
    pub fn start_recording(
        &self,
        path: PathBuf,
        form: Form,
        left: Vec<PortId>,
        right: Option<Vec<PortId>>,
    ) -> RecordingId {
        let recording = RecordingId(self.next_id());
        self.send(Command::StartRecording(recording, path, form, left, right));
        recording
    }

    /// SHA-256 of the certificate that browsers are shown, as SDP writes it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.shared.identity.fingerprint().to_string()
    }

    /// Gives what is received on two sides of ports to the application.
    pub fn start_tap(&self, left: Vec<PortId>, right: Vec<PortId>) -> TapId {
        let tap = TapId(self.next_id());
        self.send(Command::StartTap(tap, left, right));
        tap
    }

    /// Readable when events wait.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.shared.events.as_fd()
    }

    /// Takes all events that wait.
    #[must_use]
    pub fn drain_events(&self) -> Vec<Event> {
        let events: Vec<Event> = self.shared.events.drain().collect();
        let pieces = events.iter().filter(|event| matches!(event, Event::TapAudio(..))).count();
        self.shared.waiting_pieces.fetch_sub(pieces, Ordering::Relaxed);
        events
    }

    /// Counts of the whole engine.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// Finishes recordings, closes ports and joins the threads; the last events can be drained
    /// after it. Does nothing the second time.
    pub fn shutdown(&self) {
        self.send(Command::Shutdown);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread that panicked has said so on standard error.
            let _ended = thread.join();
        }
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests;
