//! The stream a port sends: numbers, digits, encoding and packets.

use std::net::SocketAddr;

use crate::codec::{Codec, PCM_SAMPLES, Pcm};
use crate::dtmf::{self, Sending as Digits};
use crate::event::{Connection, Event, PortId};
use crate::outbox::Outbox;
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use crate::sound::Sound;
use crate::tone::KeyTone;

/// Most frames in a packet sent, 60 ms.
pub const MAX_FRAMES_PER_PACKET: u8 = 3;

/// Start values of the stream sent, unpredictable as RFC 3550 section 5.1 asks.
#[derive(Clone, Copy, Debug)]
pub struct StreamStart {
    /// Our source.
    pub ssrc: Ssrc,
    /// First sequence number.
    pub sequence: SequenceNumber,
    /// RTP time of round zero of the wheel.
    pub timestamp: RtpTimestamp,
}

/// What has become of a turn to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A telephone event has been sent.
    Sent,
    /// The tone of a key is to be sent.
    Tone,
    /// It is for the audio.
    Audio,
}

/// The sending half of a port.
#[derive(Debug)]
pub struct Sending {
    ssrc: Ssrc,
    sequence: SequenceNumber,
    start: RtpTimestamp,
    packets: u64,
    last_round: Option<u64>,
    /// The next audio packet follows a time in which none was sent.
    marker: bool,
    digits: dtmf::Sender,
    /// Somebody waits for the digits to be sent.
    asked: bool,
    /// The tone of the key that is being sent in the audio.
    key_tone: Option<KeyTone>,
    /// Payload of frames that wait until their packet is full; not used for packets of 20 ms.
    waiting: Vec<u8>,
    waiting_frames: u8,
    waiting_since: RtpTimestamp,
}

impl Sending {
    /// A stream of which nothing is sent yet.
    #[must_use]
    pub fn new(start: StreamStart) -> Self {
        Self {
            ssrc: start.ssrc,
            sequence: start.sequence,
            start: start.timestamp,
            packets: 0,
            last_round: None,
            marker: true,
            digits: dtmf::Sender::default(),
            asked: false,
            key_tone: None,
            waiting: Vec::new(),
            waiting_frames: 0,
            waiting_since: start.timestamp,
        }
    }

    /// Packets handed over for sending.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The round it was last asked to send in.
    #[must_use]
    pub fn last_round(&self) -> Option<u64> {
        self.last_round
    }

    /// Another codec follows: what waits cannot be sent any more.
    pub fn reset(&mut self) {
        self.drop_waiting();
    }

    /// Appends digits to those being sent.
    pub fn push_digits(&mut self, digits: &str, tone_ms: u32, gap_ms: u32) {
        self.digits.push(digits, tone_ms, gap_ms);
        self.asked = !self.digits.is_idle();
    }

    /// Begins to send a key that is held elsewhere.
    pub fn press_key(&mut self, key: char) {
        self.digits.press(key);
    }

    /// Ends it.
    pub fn release_key(&mut self, duration_ms: u32) {
        self.digits.release(duration_ms);
    }

    /// Whether no digit is being sent.
    #[must_use]
    pub fn is_digits_idle(&self) -> bool {
        self.digits.is_idle()
    }

    /// Enters a round; None when it was met before: a port moved to another slot may be asked
    /// twice.
    pub fn enter(&mut self, round: u64, codec: Codec) -> Option<RtpTimestamp> {
        if self.last_round.replace(round) == Some(round) {
            return None;
        }
        Some(self.start.after((round as u32).wrapping_mul(codec.frame_ticks())))
    }

    /// Sends what is due of the digits. Where telephone events were not negotiated their tones take
    /// the place of what is in `sound`.
    #[allow(clippy::too_many_arguments)]
    pub fn digits(
        &mut self,
        port: PortId,
        connection: &Connection,
        to: SocketAddr,
        timestamp: RtpTimestamp,
        sound: &mut Sound,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> Turn {
        match self.digits.step(timestamp, connection.codec.frame_ticks()) {
            Digits::Packet { marker, timestamp, payload, tone } => {
                let Some(pt) = connection.digit_pt else {
                    self.fill_tone(tone, sound.start_pcm());
                    return Turn::Tone;
                };
                self.drop_waiting();
                self.marker = true;
                if connection.send {
                    self.packet(marker, pt, timestamp, &payload, to, out);
                }
                Turn::Sent
            }
            Digits::Finished => {
                // Keys that are passed on from another port were not asked for.
                if std::mem::take(&mut self.asked) {
                    events.push(Event::DigitsSent(port));
                }
                Turn::Audio
            }
            Digits::Audio => Turn::Audio,
        }
    }

    fn fill_tone(&mut self, tone: dtmf::Tone, pcm: &mut Pcm) {
        if let dtmf::Tone::First(key) = tone {
            self.key_tone = KeyTone::new(key);
        }
        match self.key_tone.as_mut().filter(|_| tone != dtmf::Tone::Over) {
            Some(generator) => generator.fill(pcm, tone == dtmf::Tone::Last),
            None => pcm.fill(0),
        }
    }

    /// Sends 20 ms, or keeps them until their packet is full. A connected port that has nothing to
    /// say sends silence: NAT bindings stay open, and no far end takes us for dead.
    pub fn audio(
        &mut self,
        connection: &Connection,
        to: SocketAddr,
        timestamp: RtpTimestamp,
        sound: &Sound,
        out: &mut Outbox,
    ) {
        if !connection.send {
            self.marker = true;
            self.drop_waiting();
            return;
        }
        let mut octets = [0; PCM_SAMPLES];
        let frame = match sound.encoded() {
            Some(encoded) if encoded.codec() == connection.codec => encoded.payload(),
            _ => {
                encode(connection.codec, sound.pcm(), &mut octets);
                &octets
            }
        };
        let marker = self.marker;
        let pt = connection.payload_type;
        if connection.frames_per_packet <= 1 {
            self.marker = false;
            return self.packet(marker, pt, timestamp, frame, to, out);
        }
        if self.waiting_frames == 0 {
            self.waiting_since = timestamp;
        }
        self.waiting.extend_from_slice(frame);
        self.waiting_frames += 1;
        if self.waiting_frames >= connection.frames_per_packet.min(MAX_FRAMES_PER_PACKET) {
            self.marker = false;
            let waiting = std::mem::take(&mut self.waiting);
            self.packet(marker, pt, self.waiting_since, &waiting, to, out);
            self.waiting = waiting;
            self.drop_waiting();
        }
    }

    fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_frames = 0;
    }

    fn packet(
        &mut self,
        marker: bool,
        pt: Pt,
        timestamp: RtpTimestamp,
        payload: &[u8],
        to: SocketAddr,
        out: &mut Outbox,
    ) {
        let packet =
            Packet { marker, pt, sequence: self.sequence, timestamp, ssrc: self.ssrc, payload };
        if out.push(to, |room| packet.write(room)) {
            self.sequence = self.sequence.next();
            self.packets += 1;
        }
    }
}

/// Encodes 20 ms in G.711; nothing is silence.
fn encode(codec: Codec, pcm: Option<&Pcm>, out: &mut [u8; PCM_SAMPLES]) {
    let Some(law) = codec.law() else { return };
    match pcm {
        Some(pcm) => {
            for (octet, sample) in out.iter_mut().zip(pcm) {
                *octet = law.encode(*sample);
            }
        }
        None => out.fill(law.silence()),
    }
}
