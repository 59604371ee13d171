//! One RTP port without its socket: datagrams and ticks in, packets and events out.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Now;
use crate::dtmf::{self, Press, Sending};
use crate::event::{Connection, Event, PlayId, PortFigures, PortId};
use crate::g711::{FRAME_SAMPLES, Frame, Law};
use crate::jitter::{JitterBuffer, Read};
use crate::player::{Clip, Playlist};
use crate::reception::{Arrival, Reception};
use crate::rtp::{self, Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};

/// Most frames in a packet sent, 60 ms.
pub const MAX_FRAMES_PER_PACKET: u8 = 3;

/// Largest packet sent.
pub const MAX_PACKET_LEN: usize = rtp::HEADER_LEN + FRAME_SAMPLES * MAX_FRAMES_PER_PACKET as usize;

/// Longest audio payload taken in, 120 ms.
const MAX_PAYLOAD_LEN: usize = 960;

/// How long the source of a stream must be quiet before another one may take its place.
const LATCH_HOLD: Duration = Duration::from_millis(200);

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

/// What plays on a port.
#[derive(Debug)]
enum Playback {
    Idle,
    Loading { play: PlayId, looped: bool },
    Playing { play: PlayId, playlist: Playlist },
}

/// State of one port.
#[derive(Debug)]
pub struct Port {
    id: PortId,
    connection: Option<Connection>,
    /// Where the far end was last heard from.
    latched: Option<SocketAddr>,
    receiving: Receiving,
    sending: SendingSide,
    playback: Playback,
}

#[derive(Debug, Default)]
struct Receiving {
    reception: Reception,
    invalid: u64,
    digits: dtmf::Receiver,
    jitter: JitterBuffer,
    /// Users of the audio: a bridge, recordings. Without any it is not buffered.
    listeners: u32,
    heard: Option<Frame>,
    heard_round: u64,
    last_packet: Now,
    timed_out: bool,
}

#[derive(Debug)]
struct SendingSide {
    ssrc: Ssrc,
    sequence: SequenceNumber,
    start: RtpTimestamp,
    packets: u64,
    last_round: Option<u64>,
    /// The next audio packet follows a time in which none was sent.
    marker: bool,
    digits: dtmf::Sender,
    frames: [u8; MAX_PACKET_LEN - rtp::HEADER_LEN],
    frame_count: u8,
    frames_timestamp: RtpTimestamp,
}

impl Port {
    /// A port that knows no far end yet.
    #[must_use]
    pub fn new(id: PortId, start: StreamStart) -> Self {
        Self {
            id,
            connection: None,
            latched: None,
            receiving: Receiving::default(),
            sending: SendingSide {
                ssrc: start.ssrc,
                sequence: start.sequence,
                start: start.timestamp,
                packets: 0,
                last_round: None,
                marker: true,
                digits: dtmf::Sender::default(),
                frames: [0; MAX_PACKET_LEN - rtp::HEADER_LEN],
                frame_count: 0,
                frames_timestamp: start.timestamp,
            },
            playback: Playback::Idle,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> PortId {
        self.id
    }

    /// The law spoken; A-law as long as nothing is negotiated.
    #[must_use]
    pub fn law(&self) -> Law {
        self.connection.map_or(Law::A, |connection| connection.law)
    }

    /// Where packets go, once connected.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.latched.or(self.connection.map(|connection| connection.remote))
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> PortFigures {
        let reception = &self.receiving.reception;
        PortFigures {
            packets_sent: self.sending.packets,
            packets_received: reception.received(),
            packets_lost: reception.lost().max(0).cast_unsigned(),
            packets_invalid: self.receiving.invalid,
            jitter_ms: reception.jitter_ms(),
        }
    }

    /// Takes over what was negotiated.
    pub fn connect(&mut self, connection: Connection, now: Now) {
        let former = self.connection.replace(connection);
        if former.map(|former| former.remote) != Some(connection.remote) {
            self.latched = None;
        }
        if former.is_none_or(|former| former.law != connection.law) {
            self.receiving.jitter.reset();
            self.sending.frame_count = 0;
        }
        self.receiving.last_packet = now;
        self.receiving.timed_out = false;
    }

    /// Begins a play whose files are being loaded; what played before is replaced silently.
    pub fn play(&mut self, play: PlayId, looped: bool) {
        self.playback = Playback::Loading { play, looped };
    }

    /// Takes the loaded clips, unless the play was stopped or replaced meanwhile.
    pub fn loaded(
        &mut self,
        loaded: PlayId,
        law: Law,
        clips: Result<Vec<Clip>, String>,
        events: &mut Vec<Event>,
    ) {
        let Playback::Loading { play, looped } = self.playback else { return };
        if play != loaded {
            return;
        }
        match clips {
            Ok(clips) => {
                let playlist = Playlist::new(clips, law, looped);
                self.playback = Playback::Playing { play, playlist };
            }
            Err(error) => {
                self.playback = Playback::Idle;
                events.push(Event::PlayEnded(self.id, play, false, error));
            }
        }
    }

    /// Stops what plays.
    pub fn stop_play(&mut self, events: &mut Vec<Event>) {
        match std::mem::replace(&mut self.playback, Playback::Idle) {
            Playback::Idle => {}
            Playback::Loading { play, .. } | Playback::Playing { play, .. } => {
                events.push(Event::PlayEnded(self.id, play, false, String::new()));
            }
        }
    }

    /// Appends digits to those being sent. Without a negotiated payload type none can be sent,
    /// and the wait for them ends at once.
    pub fn send_digits(
        &mut self,
        digits: &str,
        tone_ms: u32,
        gap_ms: u32,
        events: &mut Vec<Event>,
    ) {
        if self.connection.is_some_and(|connection| connection.digit_pt.is_some()) {
            self.sending.digits.push(digits, tone_ms, gap_ms);
        }
        if self.sending.digits.is_idle() {
            events.push(Event::DigitsSent(self.id));
        }
    }

    /// A bridge or a recording begins to use the audio received.
    pub fn add_listener(&mut self) {
        if self.receiving.listeners == 0 {
            self.receiving.jitter.reset();
            self.receiving.heard = None;
        }
        self.receiving.listeners += 1;
    }

    /// A bridge or a recording has ended.
    pub fn remove_listener(&mut self) {
        self.receiving.listeners = self.receiving.listeners.saturating_sub(1);
    }

    /// Takes in a datagram; false when it is not valid RTP of this port.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        // Before the negotiation is known nothing can be judged: early media is left alone.
        let Some(connection) = self.connection else { return true };
        let accepted = from.ip().to_canonical() == connection.remote_ip()
            && self.may_latch(from, now)
            && self.accept(datagram, &connection, now, events);
        if accepted {
            // Symmetric RTP, RFC 4961: a phone behind NAT is reached where it sends from.
            self.latched = Some(from);
            self.receiving.last_packet = now;
            self.receiving.timed_out = false;
        } else {
            self.receiving.invalid += 1;
        }
        accepted
    }

    /// Another port of the far end's address is followed only when the present one has gone
    /// quiet: behind one address there may be many calls, and a stray stream must not win.
    fn may_latch(&self, from: SocketAddr, now: Now) -> bool {
        self.latched.is_none_or(|latched| {
            latched == from || now.saturating_sub(self.receiving.last_packet) >= LATCH_HOLD
        })
    }

    fn accept(
        &mut self,
        datagram: &[u8],
        connection: &Connection,
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        let Ok(packet) = Packet::parse(datagram) else { return false };
        let is_audio = Law::of(packet.pt) == Some(connection.law);
        let is_digit = connection.digit_pt == Some(packet.pt);
        let payload_len = packet.payload.len();
        let plausible = match (is_audio, is_digit) {
            (true, _) => (1..=MAX_PAYLOAD_LEN).contains(&payload_len),
            (_, true) => payload_len >= dtmf::PAYLOAD_LEN,
            _ => packet.pt == Pt::COMFORT_NOISE,
        };
        if !plausible {
            return false;
        }
        let receiving = &mut self.receiving;
        match receiving.reception.count(&packet) {
            Arrival::NewSource => {
                receiving.jitter.reset();
                report(self.id, receiving.digits.reset(), events);
            }
            Arrival::InStream => {}
            Arrival::Suspect => return true,
        }
        if is_audio {
            receiving.reception.measure(packet.timestamp, now);
            if connection.receive && receiving.listeners > 0 {
                receiving.jitter.write(packet.timestamp, packet.payload);
            }
        } else if is_digit {
            for press in receiving.digits.receive(&packet, now).into_iter().flatten() {
                report(self.id, press, events);
            }
        }
        true
    }

    /// The receiving half of a tick: reads the jitter buffer and looks at time limits.
    pub fn tick_receive(&mut self, round: u64, now: Now, events: &mut Vec<Event>) {
        let Some(connection) = self.connection else { return };
        let receiving = &mut self.receiving;
        if receiving.listeners > 0 && receiving.heard_round != round {
            let frame = receiving.heard.get_or_insert([0; FRAME_SAMPLES]);
            if receiving.jitter.read(connection.law, frame) == Read::Nothing {
                receiving.heard = None;
            }
            receiving.heard_round = round;
        }
        report(self.id, receiving.digits.poll(now), events);
        let timeout = Duration::from_millis(connection.media_timeout_ms.into());
        if !timeout.is_zero()
            && connection.receive
            && !receiving.timed_out
            && now.saturating_sub(receiving.last_packet) >= timeout
        {
            receiving.timed_out = true;
            events.push(Event::MediaTimedOut(self.id));
        }
    }

    /// What was heard in this round, or in the one before by a port that sits in a later slot.
    #[must_use]
    pub fn heard(&self, round: u64) -> Option<(Law, &Frame)> {
        let recent = self.receiving.heard_round + 1 >= round;
        self.receiving.heard.as_ref().filter(|_| recent).map(|frame| (self.law(), frame))
    }

    /// The sending half of a tick: writes a packet to `out` and returns its length, if one is due.
    ///
    /// `bridged` is what the other side of the bridge was heard saying. A connected port that has
    /// nothing to say sends silence: NAT bindings stay open, and no far end takes us for dead.
    pub fn tick_send(
        &mut self,
        round: u64,
        bridged: Option<(Law, Frame)>,
        out: &mut [u8; MAX_PACKET_LEN],
        events: &mut Vec<Event>,
    ) -> Option<usize> {
        let connection = self.connection?;
        let sending = &mut self.sending;
        // A port moved to another slot may meet the same round twice.
        if sending.last_round.replace(round) == Some(round) {
            return None;
        }
        let timestamp = sending.start.after((round as u32).wrapping_mul(FRAME_SAMPLES as u32));
        match sending.digits.step(timestamp) {
            Sending::Packet { marker, timestamp, payload } => {
                sending.frame_count = 0;
                sending.marker = true;
                // Digits pushed before a re-INVITE took telephone events away cannot be sent.
                let pt = connection.digit_pt.filter(|_| connection.send)?;
                return Some(sending.packet(marker, pt, timestamp, &payload, out));
            }
            Sending::Finished => events.push(Event::DigitsSent(self.id)),
            Sending::Audio => {}
        }
        let mut frame = [connection.law.silence(); FRAME_SAMPLES];
        if let Some((law, heard)) = bridged {
            frame = heard;
            law.transcode(connection.law, &mut frame);
        }
        // A prompt played to a bridged port is heard in place of the other side.
        if let Playback::Playing { play, playlist } = &mut self.playback
            && !playlist.fill(connection.law, &mut frame)
        {
            events.push(Event::PlayEnded(self.id, *play, true, String::new()));
            self.playback = Playback::Idle;
        }
        self.sending.audio(&connection, timestamp, &frame, out)
    }
}

impl SendingSide {
    /// Collects frames until a packet is full.
    fn audio(
        &mut self,
        connection: &Connection,
        timestamp: RtpTimestamp,
        frame: &Frame,
        out: &mut [u8; MAX_PACKET_LEN],
    ) -> Option<usize> {
        if !connection.send {
            self.marker = true;
            self.frame_count = 0;
            return None;
        }
        if self.frame_count == 0 {
            self.frames_timestamp = timestamp;
        }
        let start = usize::from(self.frame_count) * FRAME_SAMPLES;
        self.frames[start..start + FRAME_SAMPLES].copy_from_slice(frame);
        self.frame_count += 1;
        if self.frame_count < connection.frames_per_packet.min(MAX_FRAMES_PER_PACKET) {
            return None;
        }
        let payload_len = usize::from(std::mem::take(&mut self.frame_count)) * FRAME_SAMPLES;
        let marker = std::mem::take(&mut self.marker);
        let pt = match connection.law {
            Law::A => Pt(8),
            Law::Mu => Pt(0),
        };
        let frames = self.frames;
        Some(self.packet(marker, pt, self.frames_timestamp, &frames[..payload_len], out))
    }

    fn packet(
        &mut self,
        marker: bool,
        pt: Pt,
        timestamp: RtpTimestamp,
        payload: &[u8],
        out: &mut [u8; MAX_PACKET_LEN],
    ) -> usize {
        let packet =
            Packet { marker, pt, sequence: self.sequence, timestamp, ssrc: self.ssrc, payload };
        self.sequence = self.sequence.next();
        self.packets += 1;
        packet.write(out)
    }
}

fn report(id: PortId, press: Option<Press>, events: &mut Vec<Event>) {
    if let Some(press) = press {
        events.push(Event::Digit(id, press.key, press.duration_ms));
    }
}

#[cfg(test)]
mod tests;
