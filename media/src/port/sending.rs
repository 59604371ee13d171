//! The stream a port sends: numbers, digits, encoding and packets.

use std::net::SocketAddr;

use crate::codec::{Codec, Encoder, MAX_FRAME_LEN, Pcm};
use crate::dtmf::{self, Sending as Digits};
use crate::event::{Connection, Event, PortId};
use crate::outbox::{Channel, Outbox};
use crate::port::packetizer::{Leaves, Packetizer};
use crate::rtcp::session::Sent;
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use crate::sound::Sound;
use crate::tone::KeyTone;

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
    stream: Stream,
    start: RtpTimestamp,
    /// The stream's time at the last tick.
    timestamp: RtpTimestamp,
    last_round: Option<u64>,
    digits: dtmf::Sender,
    /// Somebody waits for the digits to be sent.
    asked: bool,
    /// The tone of the key that is being sent in the audio.
    key_tone: Option<KeyTone>,
    encoder: Encoder,
    /// The last frame was passed on as it came, so that the encoder knows nothing of it.
    passed: bool,
    packetizer: Packetizer,
}

/// What numbers the packets.
#[derive(Debug)]
struct Stream {
    ssrc: Ssrc,
    sequence: SequenceNumber,
    packets: u64,
    octets: u64,
    /// The next audio packet follows a time in which none was sent.
    marker: bool,
}

impl Sending {
    /// A stream of which nothing is sent yet.
    #[must_use]
    pub fn new(start: StreamStart) -> Self {
        Self {
            stream: Stream {
                ssrc: start.ssrc,
                sequence: start.sequence,
                packets: 0,
                octets: 0,
                marker: true,
            },
            start: start.timestamp,
            timestamp: start.timestamp,
            last_round: None,
            digits: dtmf::Sender::default(),
            asked: false,
            key_tone: None,
            encoder: Encoder::new(Codec::Pcma),
            passed: false,
            packetizer: Packetizer::default(),
        }
    }

    /// Reads a little of all that a tick needs.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        let is_idle = self.digits.is_idle() && self.packetizer.is_empty();
        self.stream.packets + u64::from(is_idle) + u64::from(self.passed)
    }

    /// Packets handed over for sending.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.stream.packets
    }

    /// What was sent, for reports.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let Stream { packets, octets, .. } = self.stream;
        Sent { timestamp: self.timestamp, packets, octets }
    }

    /// The round it was last asked to send in.
    #[must_use]
    pub fn last_round(&self) -> Option<u64> {
        self.last_round
    }

    /// Another codec or packet time follows: what waits cannot be sent any more.
    pub fn reset(&mut self, codec: Codec, packet_time_ms: u8) {
        self.encoder = Encoder::for_packets(codec, packet_time_ms);
        self.passed = false;
        self.packetizer.clear();
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
        self.timestamp = self.start.after((round as u32).wrapping_mul(codec.frame_ticks()));
        Some(self.timestamp)
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
                self.packetizer.clear();
                self.stream.marker = true;
                if connection.send {
                    self.stream.packet(marker, pt, timestamp, &payload, to, out);
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
            self.stream.marker = true;
            self.packetizer.clear();
            return;
        }
        let mut octets = [0; MAX_FRAME_LEN];
        let frame = match sound.encoded().filter(|encoded| encoded.codec() == connection.codec) {
            Some(encoded) => {
                self.passed = true;
                encoded.payload()
            }
            None => {
                if std::mem::take(&mut self.passed) {
                    self.encoder.reset();
                }
                let len = match sound.pcm() {
                    Some(pcm) => self.encoder.encode(pcm, &mut octets),
                    None => self.encoder.encode_silence(&mut octets),
                };
                &octets[..len]
            }
        };
        // Lost on its way to us, or part of the packet of Opus before it.
        if frame.is_empty() {
            return;
        }
        let stream = &mut self.stream;
        let (codec, time_ms) = (connection.codec, connection.packet_time_ms);
        self.packetizer.push(codec, time_ms, timestamp, frame, |timestamp, payload, leaves| {
            let marker = std::mem::take(&mut stream.marker);
            let has_room =
                stream.packet(marker, connection.payload_type, timestamp, payload, to, out);
            if has_room && leaves == Leaves::HalfARoundLater {
                out.let_wait();
            }
        });
    }
}

impl Stream {
    fn packet(
        &mut self,
        marker: bool,
        pt: Pt,
        timestamp: RtpTimestamp,
        payload: &[u8],
        to: SocketAddr,
        out: &mut Outbox,
    ) -> bool {
        let packet =
            Packet { marker, pt, sequence: self.sequence, timestamp, ssrc: self.ssrc, payload };
        let has_room = out.push(Channel::Media, to, |room| packet.write(room));
        if has_room {
            self.sequence = self.sequence.next();
            self.packets += 1;
            self.octets += payload.len() as u64;
        }
        has_room
    }
}
