//! What the engine reports and what it is told, as plain data, and the queues that carry them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use crate::answer::Answer;
use crate::codec::Codec;
use crate::player::Clips;
use crate::progress::Signal;
use crate::recognition::{Recognised, Reference};
use crate::rtp::Pt;
use crate::secure::Security;
use crate::secure::dtls::Failure;
use crate::secure::srtp::Suite;
use crate::socket::PortSockets;
use crate::tone::Tone;
use crate::wav::Form;

/// Identifies a port; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortId(pub u64);

/// Identifies one `play`; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlayId(pub u64);

/// Identifies one `recognise`; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecognitionId(pub u64);

/// Identifies a recording; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordingId(pub u64);

/// Identifies a tap; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TapId(pub u64);

/// What was counted on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PortFigures {
    /// RTP packets handed to the kernel.
    pub packets_sent: u64,
    /// Valid RTP packets received.
    pub packets_received: u64,
    /// Expected less received, RFC 3550 section A.3, not below zero.
    pub packets_lost: u64,
    /// Datagrams that are no RTP, or of another address or payload type.
    pub packets_invalid: u64,
    /// RFC 3550 section A.8.
    pub jitter_ms: f64,
    /// Packets that came too late to be played.
    pub packets_late: u64,
    /// Packets that came more than once.
    pub packets_duplicate: u64,
    /// What was spoken last.
    pub codec: Option<Codec>,
    /// To the far end and back, when it reports: RFC 3550 section 6.4.1.
    pub round_trip_ms: Option<f64>,
    /// MOS-CQE of what was received, over the call.
    pub mos: Option<f64>,
    /// The same, of the worst five seconds.
    pub worst_mos: Option<f64>,
    /// Packets of ours that the far end says it has lost.
    pub far_packets_lost: Option<u64>,
    /// Jitter of our stream as the far end measures it.
    pub far_jitter_ms: Option<f64>,
}

/// A finished recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingSummary {
    /// Where the file is.
    pub path: PathBuf,
    /// Hash of the whole file, hexadecimal; empty when it could not be read.
    pub sha256: String,
    /// Length of the file.
    pub size_bytes: u64,
    /// Audio in the file.
    pub duration_ms: u64,
    /// 1 or 2.
    pub channels: u16,
    /// Frames of 20 ms replaced by silence because the disk was too slow.
    pub dropped_frames: u64,
    /// Where it was paused, as spans of the file in ms; what was said then is silence in it.
    pub pauses_ms: Vec<(u64, u64)>,
    /// Empty when all went well.
    pub error: String,
}

/// 200 ms of both sides of a tap; less at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapPiece {
    /// Where it begins, in frames of 20 ms since the tap's start; a jump is audio that was dropped.
    pub first_frame: u64,
    /// PCM16, little-endian, left and right sample by sample.
    pub interleaved: Vec<u8>,
}

/// How a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigitSource {
    /// As a telephone event, RFC 4733.
    Rfc4733,
    /// As a tone in the audio.
    Inband,
}

impl DigitSource {
    /// The name by which the call model knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rfc4733 => "rfc4733",
            Self::Inband => "inband",
        }
    }
}

/// What is listened for in the audio received; each costs CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detect {
    /// Keys as tones.
    pub keys: bool,
    /// CNG, CED and ANSam.
    pub fax: bool,
    /// Ringback, busy, congestion, no such number, dial tone.
    pub progress: bool,
    /// A person or a machine, from the moment on in which it is asked for.
    pub answer: bool,
}

/// What the engine reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A key was pressed, for so many ms.
    Digit(PortId, char, u32, DigitSource),
    /// A tone was recognised, so many ms after the port began to listen.
    Tone(PortId, Signal, u64),
    /// It was judged who has answered, so many ms after the port was asked for it.
    Answer(PortId, Answer, u64),
    /// One of the sounds listened for was recognised.
    Recognised(PortId, RecognitionId, Recognised),
    /// A sound cannot be listened for.
    RecognitionFailed(PortId, RecognitionId, String),
    /// A playlist ended: whether completed, and the error if any.
    PlayEnded(PortId, PlayId, bool, String),
    /// All digits were sent.
    DigitsSent(PortId),
    /// Nothing was heard of the far end for the time set.
    MediaTimedOut(PortId),
    /// A recording is complete on disk.
    RecordingEnded(RecordingId, Box<RecordingSummary>),
    /// SRTP keys are there; media flows.
    SecureMediaReady(PortId, Suite),
    /// There will be no keys, and so no media.
    SecureMediaFailed(PortId, Failure),
    /// A piece of what a tap hears.
    TapAudio(TapId, TapPiece),
    /// The last event of a tap: how many frames of 20 ms it heard, and how many of them were
    /// dropped because nobody took them in time.
    TapEnded(TapId, u64, u64),
    /// The last event of a port.
    PortClosed(PortId, PortFigures),
    /// Every open port with the packets it has received: the answer to `Command::Survey`.
    Surveyed(Vec<(PortId, u64)>),
    /// The reactor has ended by a panic: all ports are gone, and there will be no others.
    Failed,
}

/// Where reports on the streams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// Nowhere.
    None,
    /// To a port of the far end's address.
    Port(u16),
    /// With the media, RFC 5761.
    Shared,
}

/// What was negotiated for a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where to send, until the far end is heard from another port of the same address.
    pub remote: SocketAddr,
    /// Audio both ways.
    pub codec: Codec,
    /// The payload type that stands for the codec in what is sent.
    pub payload_type: Pt,
    /// Telephone events, when negotiated.
    pub digit_pt: Option<Pt>,
    /// The same two in what is received, where the far end sends with other numbers than it is
    /// sent (RFC 3264 section 5.1).
    pub heard_as: Option<(Pt, Option<Pt>)>,
    /// Audio in a packet sent: 10 to 60 in steps of 10.
    pub packet_time_ms: u8,
    /// Whether audio is sent.
    pub send: bool,
    /// Whether audio is taken in.
    pub receive: bool,
    /// Silence of the far end that is reported; 0 is none.
    pub media_timeout_ms: u32,
    /// How media is protected; None is plain RTP.
    pub security: Option<Security>,
    /// What is listened for in the audio.
    pub detect: Detect,
    /// Reports on the streams.
    pub rtcp: Rtcp,
}

impl Connection {
    /// Plain RTP both ways in packets of 20 ms, and nothing beside the audio.
    #[must_use]
    pub fn new(remote: SocketAddr, codec: Codec, payload_type: Pt) -> Self {
        Self {
            remote,
            codec,
            payload_type,
            digit_pt: None,
            heard_as: None,
            packet_time_ms: 20,
            send: true,
            receive: true,
            media_timeout_ms: 0,
            security: None,
            detect: Detect::default(),
            rtcp: Rtcp::None,
        }
    }

    /// The payload types of audio and of telephone events in what is received.
    #[must_use]
    pub fn received_pts(&self) -> (Pt, Option<Pt>) {
        self.heard_as.unwrap_or((self.payload_type, self.digit_pt))
    }

    /// The address RTP is accepted from.
    #[must_use]
    pub fn remote_ip(&self) -> IpAddr {
        self.remote.ip().to_canonical()
    }
}

/// What the reactor is told.
#[derive(Debug)]
pub enum Command {
    /// Take over bound sockets.
    Open(PortId, PortSockets),
    /// Set what was negotiated.
    Connect(PortId, Connection),
    /// Stop all on the port and close it.
    Close(PortId),
    /// Play files in order, or for ever.
    Play(PortId, PlayId, Vec<PathBuf>, bool),
    /// Play a tone, once or for ever.
    PlayTone(PortId, PlayId, Tone, bool),
    /// The loader's answer to a play.
    Loaded(PortId, PlayId, Result<Clips, String>),
    /// Listen for known sounds in place of those listened for so far; for none is for nothing.
    Recognise(PortId, RecognitionId, Vec<PathBuf>),
    /// The loader's answer to it.
    Learnt(PortId, RecognitionId, Result<Vec<Arc<Reference>>, String>),
    /// Stop what plays.
    StopPlay(PortId),
    /// Send digits with the lengths of tone and gap in ms; as tones where telephone events were
    /// not negotiated.
    SendDigits(PortId, String, u32, u32),
    /// Hand what comes at either port on to the far end of the other, as it is; a silence of so
    /// long is told.
    Relay([(PortId, SocketAddr); 2], Duration),
    /// Let each of these ports hear the sum of its sources, all from the same frame on.
    SetRoutes(Vec<(PortId, Vec<PortId>)>),
    /// Let each of these ports send the keys that its sources press, as they do.
    SetKeyRoutes(Vec<(PortId, Vec<PortId>)>),
    /// Record what is received, mixed: on one channel, or on the left and the right one.
    StartRecording(RecordingId, PathBuf, Form, Vec<PortId>, Option<Vec<PortId>>),
    /// Change who is recorded on the left, or only, and on the right channel.
    SetRecordingSides(RecordingId, Vec<PortId>, Vec<PortId>),
    /// Record silence from now on, or no more.
    PauseRecording(RecordingId, bool),
    /// Give what is received to the application, as on the two sides of a recording.
    StartTap(TapId, Vec<PortId>, Vec<PortId>),
    /// Change who is heard on the two sides of a tap.
    SetTapSides(TapId, Vec<PortId>, Vec<PortId>),
    /// End a tap.
    StopTap(TapId),
    /// Finish a recording.
    StopRecording(RecordingId),
    /// Tell how much each port has received.
    Survey,
    /// Finish everything and end the thread.
    Shutdown,
}

/// A queue whose reader is woken through an eventfd, once for many entries.
#[derive(Debug)]
pub struct WakingQueue<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    wake: Arc<Wake>,
}

#[derive(Debug)]
struct Wake {
    fd: OwnedFd,
    raised: AtomicBool,
}

impl<T> Clone for WakingQueue<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            receiver: self.receiver.clone(),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<T> WakingQueue<T> {
    /// An empty queue.
    ///
    /// # Errors
    /// When no eventfd can be made.
    pub fn new() -> std::io::Result<Self> {
        let (sender, receiver) = unbounded();
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { sender, receiver, wake: Arc::new(Wake { fd, raised: AtomicBool::new(false) }) })
    }

    /// Appends an entry and wakes the reader.
    pub fn push(&self, entry: T) {
        // Cannot fail: this queue holds a receiver itself.
        let _sent = self.sender.send(entry);
        if !self.wake.raised.swap(true, Ordering::SeqCst) {
            let _written = rustix::io::write(&self.wake.fd, &1u64.to_ne_bytes());
        }
    }

    /// Takes all entries; one pushed meanwhile is either taken too or wakes the reader again.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        // Read even when not raised: a pusher may write after an earlier drain took its entry.
        let _read = rustix::io::read(&self.wake.fd, &mut [0; 8]);
        self.wake.raised.store(false, Ordering::SeqCst);
        self.receiver.try_iter()
    }
}

/// Readable when entries wait.
impl<T> AsFd for WakingQueue<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_wakes_once_and_the_next_wakes_again() {
        let queue = WakingQueue::new().unwrap();
        let mut count = [0; 8];
        for round in 0..3 {
            queue.push(round);
            queue.push(round);
            assert!(rustix::io::read(&queue, &mut count).is_ok());
            assert!(rustix::io::read(&queue, &mut count).is_err());
            assert_eq!(queue.drain().collect::<Vec<_>>(), [round, round]);
        }
    }
}
