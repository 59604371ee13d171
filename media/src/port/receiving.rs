//! The stream a port receives: what is believed, counted, buffered and heard.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Now;
use crate::codec::{Codec, Decoder, Encoded, MAX_FRAME_LEN, Pcm};
use crate::dtmf::{self, Press, PressLog};
use crate::event::{Connection, DigitSource, Event, PortId};
use crate::jitter::{JitterBuffer, Order, Read};
use crate::reception::{Arrival, Reception};
use crate::rtp::{Packet, Pt};
use crate::sound::Sound;

/// Longest audio payload taken in, 120 ms of G.711.
pub const MAX_PAYLOAD_LEN: usize = 960;

/// How long the source of a stream must be quiet before another one may take its place.
const LATCH_HOLD: Duration = Duration::from_millis(200);

/// The audio of a port that somebody listens to.
#[derive(Debug)]
struct Audio {
    jitter: JitterBuffer,
    decoder: Decoder,
}

impl Audio {
    fn new(codec: Codec) -> Self {
        Self { jitter: JitterBuffer::new(codec), decoder: Decoder::new(codec) }
    }
}

/// The receiving half of a port.
#[derive(Debug)]
pub struct Receiving {
    reception: Reception,
    invalid: u64,
    digits: dtmf::Receiver,
    codec: Codec,
    /// Present while somebody listens.
    audio: Option<Box<Audio>>,
    /// Sinks that use the audio. Without any it is not buffered.
    listeners: usize,
    heard: Sound,
    heard_round: Option<u64>,
    /// Where the far end was last heard from.
    latched: Option<SocketAddr>,
    last_packet: Now,
    timed_out: bool,
}

impl Default for Receiving {
    fn default() -> Self {
        Self {
            reception: Reception::default(),
            invalid: 0,
            digits: dtmf::Receiver::default(),
            codec: Codec::Pcma,
            audio: None,
            listeners: 0,
            heard: Sound::default(),
            heard_round: None,
            latched: None,
            last_packet: Now::ZERO,
            timed_out: false,
        }
    }
}

impl Receiving {
    /// What was counted.
    #[must_use]
    pub fn reception(&self) -> &Reception {
        &self.reception
    }

    /// The keys that came by RFC 4733.
    #[must_use]
    pub fn key_log(&self) -> &PressLog {
        self.digits.log()
    }

    /// Datagrams that were refused.
    #[must_use]
    pub fn invalid(&self) -> u64 {
        self.invalid
    }

    /// Where the far end was last heard from.
    #[must_use]
    pub fn latched(&self) -> Option<SocketAddr> {
        self.latched
    }

    /// Takes over what was negotiated.
    pub fn connect(&mut self, former: Option<&Connection>, connection: &Connection, now: Now) {
        if former.map(|former| former.remote) != Some(connection.remote) {
            self.latched = None;
        }
        if former.is_none_or(|former| former.codec != connection.codec) {
            self.codec = connection.codec;
            self.reception.set_clock_rate(connection.codec.clock_rate_hz());
            self.audio = self.audio.take().map(|_| Box::new(Audio::new(connection.codec)));
        }
        self.digits.set_clock_rate(connection.codec.clock_rate_hz());
        self.last_packet = now;
        self.timed_out = false;
    }

    /// Says how many sinks use the audio; the first begins with an empty buffer.
    pub fn set_listeners(&mut self, listeners: usize) {
        if self.listeners == 0 && listeners > 0 {
            self.audio = Some(Box::new(Audio::new(self.codec)));
            self.heard_round = None;
        } else if listeners == 0 {
            self.audio = None;
        }
        self.listeners = listeners;
    }

    /// Counts a datagram that is none of this port's.
    pub fn count_invalid(&mut self) {
        self.invalid += 1;
    }

    /// Takes in a datagram; false when it is not valid RTP of this port.
    pub fn receive(
        &mut self,
        port: PortId,
        connection: &Connection,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        let accepted = from.ip().to_canonical() == connection.remote_ip()
            && self.may_latch(from, now)
            && self.accept(port, datagram, connection, now, events);
        if accepted {
            // Symmetric RTP, RFC 4961: a phone behind NAT is reached where it sends from.
            self.latched = Some(from);
            self.last_packet = now;
            self.timed_out = false;
        } else {
            self.invalid += 1;
        }
        accepted
    }

    /// Another port of the far end's address is followed only when the present one has gone
    /// quiet: behind one address there may be many calls, and a stray stream must not win.
    fn may_latch(&self, from: SocketAddr, now: Now) -> bool {
        self.latched.is_none_or(|latched| {
            latched == from || now.saturating_sub(self.last_packet) >= LATCH_HOLD
        })
    }

    fn accept(
        &mut self,
        port: PortId,
        datagram: &[u8],
        connection: &Connection,
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        let Ok(packet) = Packet::parse(datagram) else { return false };
        let is_audio = packet.pt == connection.payload_type;
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
        let arrival = self.reception.count(&packet);
        if arrival == Arrival::Restart {
            report(port, self.digits.reset(), events);
        }
        if is_digit {
            // Whatever the sequence says: some far ends send digits as a source of its own.
            for press in self.digits.receive(&packet, now).into_iter().flatten() {
                report(port, press, events);
            }
            if let Some(audio) = &mut self.audio {
                audio.jitter.silence(packet.timestamp);
            }
        } else if is_audio {
            self.take_audio(connection, &packet, arrival, now);
        }
        true
    }

    fn take_audio(
        &mut self,
        connection: &Connection,
        packet: &Packet<'_>,
        arrival: Arrival,
        now: Now,
    ) {
        let order = match arrival {
            Arrival::Suspect | Arrival::Duplicate => return,
            Arrival::Overtaken => Order::Overtaken,
            Arrival::NewSource | Arrival::Restart | Arrival::Newest => Order::Newest,
        };
        self.reception.measure(packet.timestamp, now);
        let Some(audio) = self.audio.as_mut().filter(|_| connection.receive) else { return };
        if matches!(arrival, Arrival::NewSource | Arrival::Restart) {
            audio.jitter.reset();
            audio.decoder.reset();
        }
        audio.jitter.write(packet.timestamp, packet.payload, order, now);
    }

    /// Reads the jitter buffer and looks at time limits, once a round.
    pub fn tick(
        &mut self,
        port: PortId,
        connection: &Connection,
        round: u64,
        now: Now,
        events: &mut Vec<Event>,
    ) {
        if self.listeners > 0 && self.heard_round != Some(round) {
            self.hear(now);
            self.heard_round = Some(round);
        }
        report(port, self.digits.poll(now), events);
        let timeout = Duration::from_millis(connection.media_timeout_ms.into());
        if !timeout.is_zero()
            && connection.receive
            && !self.timed_out
            && now.saturating_sub(self.last_packet) >= timeout
        {
            self.timed_out = true;
            events.push(Event::MediaTimedOut(port));
        }
    }

    fn hear(&mut self, now: Now) {
        let Some(audio) = &mut self.audio else { return self.heard.clear() };
        let mut octets = [0; MAX_FRAME_LEN];
        match audio.jitter.read(&mut octets, now) {
            Read::Audio(len) => self.heard.set_encoded(audio.jitter.codec(), &octets[..len]),
            Read::Continued => _ = audio.decoder.pull(self.heard.start_pcm()),
            Read::Lost => {
                // What was passed on undecoded is what the loss is covered with.
                self.heard.decoded(|encoded, pcm| {
                    audio.decoder.decode(encoded.payload(), pcm);
                });
                audio.decoder.conceal(self.heard.start_pcm());
            }
            Read::Nothing => self.heard.clear(),
        }
    }

    /// What was heard in this round, as it came.
    #[must_use]
    pub fn encoded(&self, round: u64) -> Option<&Encoded> {
        self.heard.encoded().filter(|_| self.heard_round == Some(round))
    }

    /// What was heard in this round, decoded when it is asked for the first time.
    pub fn pcm(&mut self, round: u64) -> Option<&Pcm> {
        if self.heard_round != Some(round) {
            return None;
        }
        let audio = self.audio.as_mut()?;
        self.heard.decoded(|encoded, pcm| {
            audio.decoder.decode(encoded.payload(), pcm);
        })
    }
}

fn report(port: PortId, press: Option<Press>, events: &mut Vec<Event>) {
    if let Some(press) = press {
        events.push(Event::Digit(port, press.key, press.duration_ms, DigitSource::Rfc4733));
    }
}
