//! The stream a port receives: what is believed, counted, buffered and heard.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Now;
use crate::codec::{Codec, Decoder, Encoded, Pcm, is_silence};
use crate::dtmf::{self, Press, PressLog};
use crate::event::{Connection, DigitSource, Event, PortId};
use crate::g711::{Frame, Law};
use crate::jitter::{JitterBuffer, Order, Read};
use crate::reception::{Arrival, Reception};
use crate::rtp::{Packet, Pt, Ssrc};
use crate::sound::Sound;

/// Longest audio payload taken in, 120 ms of G.711.
pub const MAX_PAYLOAD_LEN: usize = 960;

/// How long a stream must be quiet before it may come from another port of its address: a NAT
/// has changed its mapping.
const REBIND_HOLD: Duration = Duration::from_millis(200);

/// How long it must be quiet before a stream of another source may take its place.
const REPLACE_HOLD: Duration = Duration::from_secs(1);

/// How long a datagram has waited that came some time in the last 20 ms, all in all.
const READ_LATE: Duration = Duration::from_millis(10);

/// A far end that has said that it is silent is given this much more time before its silence is
/// reported: comfort noise need not be repeated (RFC 3389 section 4, G.729 annex B).
const SILENCE_PATIENCE: u32 = 4;

/// The audio of a port that somebody listens to.
#[derive(Debug)]
struct Audio {
    jitter: JitterBuffer,
    decoder: Decoder,
    silence: Option<Silence>,
    /// The frame read last was one of discontinuous transmission.
    is_discontinuous: bool,
}

/// What the far end has said of its silence, to be heard when the buffer has run empty.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// A descriptor of RFC 3389, and how many octets of it there are.
    Noise([u8; MAX_DESCRIPTOR_LEN], usize),
    /// A descriptor of G.729 annex B.
    G729([u8; 2]),
}

/// More reflection coefficients than this are not used.
const MAX_DESCRIPTOR_LEN: usize = 11;

impl Silence {
    fn noise(payload: &[u8]) -> Self {
        let mut descriptor = [0; MAX_DESCRIPTOR_LEN];
        let len = payload.len().min(MAX_DESCRIPTOR_LEN);
        descriptor[..len].copy_from_slice(&payload[..len]);
        Self::Noise(descriptor, len)
    }
}

impl Audio {
    fn new(codec: Codec) -> Self {
        Self {
            jitter: JitterBuffer::new(codec),
            decoder: Decoder::new(codec),
            silence: None,
            is_discontinuous: false,
        }
    }

    /// Notes what an audio packet says of silence after it.
    fn note_silence(&mut self, packet: &Packet<'_>) {
        let codec = self.jitter.codec();
        self.silence = None;
        if !is_silence(codec, packet.payload) {
            return;
        }
        if let Some(descriptor) = packet.payload.last_chunk().filter(|_| codec == Codec::G729) {
            self.silence = Some(Silence::G729(*descriptor));
        }
        let ticks = codec.payload_ticks(packet.payload).unwrap_or_default();
        self.jitter.silence(packet.timestamp.after(ticks));
    }

    /// Gives what there is in a round without audio.
    fn pause(&mut self, heard: &mut Sound) {
        match self.silence.take() {
            Some(Silence::Noise(descriptor, len)) => {
                self.decoder.comfort_noise(&descriptor[..len]);
            }
            Some(Silence::G729(descriptor)) => self.decoder.push(&descriptor),
            None => {}
        }
        if self.is_discontinuous {
            heard.set_encoded(self.jitter.codec(), &[]);
        } else if self.decoder.is_silent() {
            self.decoder.conceal(heard.start_pcm());
        } else {
            heard.clear();
        }
    }
}

/// The receiving half of a port.
#[derive(Debug)]
pub struct Receiving {
    reception: Reception,
    invalid: u64,
    digits: dtmf::Receiver,
    codec: Codec,
    /// Datagrams are handed in as they come, not some time in the 20 ms that follow.
    is_prompt: bool,
    /// Datagrams that looks in time have found beyond one each, while the stream was calm.
    surplus: i32,
    /// Present while somebody listens.
    audio: Option<Box<Audio>>,
    /// Late packets of buffers that are gone.
    discarded_before: u64,
    /// Sinks that use the audio. Without any it is not buffered.
    listeners: usize,
    heard: Sound,
    heard_round: Option<u64>,
    /// Where the far end was last heard from.
    latched: Option<SocketAddr>,
    last_packet: Now,
    /// The far end has said that it is silent.
    silent: bool,
    /// The last sign of life, be it media or a report.
    last_sign: Now,
    timed_out: bool,
}

impl Default for Receiving {
    fn default() -> Self {
        Self {
            reception: Reception::default(),
            invalid: 0,
            digits: dtmf::Receiver::default(),
            codec: Codec::Pcma,
            is_prompt: true,
            surplus: 0,
            audio: None,
            discarded_before: 0,
            listeners: 0,
            heard: Sound::default(),
            heard_round: None,
            latched: None,
            last_packet: Now::ZERO,
            silent: false,
            last_sign: Now::ZERO,
            timed_out: false,
        }
    }
}

impl Receiving {
    /// Reads a little of all that a tick needs.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        let audio = self.audio.as_ref().map_or(0, |audio| {
            audio.jitter.fetch() + audio.decoder.fetch() + u64::from(audio.is_discontinuous)
        });
        let times = self.last_packet.subsec_nanos() + self.last_sign.subsec_nanos() / 2;
        let counts = self.reception.received() + self.digits.log().begun();
        audio + self.heard.fetch() + u64::from(times) + counts + u64::from(self.timed_out)
    }

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

    /// The one source that would be believed now; None when another one could take its place.
    #[must_use]
    pub fn sole_source(&self, now: Now) -> Option<SocketAddr> {
        self.latched.filter(|_| now.saturating_sub(self.last_packet) < REBIND_HOLD)
    }

    /// Says whether the next datagram is handed in as it came, or some time in 20 ms.
    pub fn set_prompt(&mut self, is_prompt: bool) {
        self.is_prompt = is_prompt;
    }

    /// Whether nothing is lost by looking at the stream once in 20 ms from now on.
    #[must_use]
    pub fn is_calm(&mut self) -> bool {
        self.surplus = 0;
        self.audio.as_ref().is_none_or(|audio| audio.jitter.is_settled())
    }

    /// Whether that is still so after such a look, in time, has found so many datagrams. If not, the
    /// buffer has to learn when they come. A packet near the tick may fall on either side of it: that
    /// tells nothing as long as there was another one to play.
    #[must_use]
    pub fn stays_calm(&mut self, found: usize) -> bool {
        let Some(audio) = &self.audio else { return true };
        self.surplus += found as i32 - 1;
        self.surplus.abs() <= 1 && (found > 0 || audio.jitter.has_next())
    }

    /// Takes over what was negotiated.
    pub fn connect(&mut self, former: Option<&Connection>, connection: &Connection, now: Now) {
        if former.map(|former| former.remote) != Some(connection.remote) {
            self.latched = None;
        }
        if former.is_none_or(|former| former.codec != connection.codec) {
            self.codec = connection.codec;
            self.reception.set_clock_rate(connection.codec.clock_rate_hz());
            let audio = self.audio.is_some().then(|| Box::new(Audio::new(connection.codec)));
            self.set_audio(audio);
        }
        self.digits.set_clock_rate(connection.codec.clock_rate_hz());
        self.last_packet = now;
        self.silent = false;
        self.note_sign(now);
    }

    /// Says how many sinks use the audio; the first begins with an empty buffer.
    pub fn set_listeners(&mut self, listeners: usize) {
        if self.listeners == 0 && listeners > 0 {
            self.set_audio(Some(Box::new(Audio::new(self.codec))));
            self.heard_round = None;
        } else if listeners == 0 {
            self.set_audio(None);
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
        let accepted = Packet::parse(datagram).is_ok_and(|packet| {
            self.may_latch(connection, from, packet.ssrc, now)
                && self.accept(port, &packet, connection, now, events)
        });
        if accepted {
            // Symmetric RTP, RFC 4961: a phone behind NAT is reached where it sends from.
            self.latched = Some(from);
            self.last_packet = now;
            self.note_sign(now);
        } else {
            self.invalid += 1;
        }
        accepted
    }

    /// Only the negotiated address is listened to, and of it the negotiated port before all
    /// others. Another port is followed when the present one has gone quiet: behind one address
    /// there may be many calls, and a stray stream must not win.
    fn may_latch(&self, connection: &Connection, from: SocketAddr, ssrc: Ssrc, now: Now) -> bool {
        if from.ip().to_canonical() != connection.remote_ip() {
            return false;
        }
        let Some(latched) = self.latched else { return true };
        if latched == from || from.port() == connection.remote.port() {
            return true;
        }
        let is_known = self.reception.ssrc() == Some(ssrc);
        let hold = if is_known { REBIND_HOLD } else { REPLACE_HOLD };
        now.saturating_sub(self.last_packet) >= hold
    }

    /// The far end is there: it has sent media or a report.
    pub fn note_sign(&mut self, now: Now) {
        self.last_sign = now;
        self.timed_out = false;
    }

    /// How long audio waits in the jitter buffer.
    #[must_use]
    pub fn buffer_delay(&self) -> Duration {
        let delay_ms = self.audio.as_ref().map_or(0, |audio| audio.jitter.delay_ms());
        Duration::from_millis(delay_ms.into())
    }

    /// Packets that came too late to be played, as far as somebody listened.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        let here = self.audio.as_ref().map_or(0, |audio| audio.jitter.figures().discarded);
        self.discarded_before + here
    }

    /// Replaces the buffer and keeps what it counted.
    fn set_audio(&mut self, audio: Option<Box<Audio>>) {
        self.discarded_before = self.discarded();
        self.audio = audio;
    }

    fn accept(
        &mut self,
        port: PortId,
        packet: &Packet<'_>,
        connection: &Connection,
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        let (audio_pt, digit_pt) = connection.received_pts();
        let is_audio = packet.pt == audio_pt;
        let is_digit = digit_pt == Some(packet.pt);
        let payload_len = packet.payload.len();
        let plausible = match (is_audio, is_digit) {
            (true, _) => (1..=MAX_PAYLOAD_LEN).contains(&payload_len),
            (_, true) => payload_len >= dtmf::PAYLOAD_LEN,
            _ => packet.pt == Pt::COMFORT_NOISE,
        };
        if !plausible {
            return false;
        }
        let arrival = self.reception.count(packet);
        if arrival == Arrival::Restart {
            report(port, self.digits.reset(), events);
        }
        if is_digit {
            // Whatever the sequence says: some far ends send digits as a source of its own.
            for press in self.digits.receive(packet, now).into_iter().flatten() {
                report(port, press, events);
            }
            if let Some(audio) = &mut self.audio {
                audio.jitter.silence(packet.timestamp);
            }
        } else if is_audio {
            self.silent = is_silence(connection.codec, packet.payload);
            self.take_audio(connection, packet, arrival, now);
        } else {
            self.silent = true;
            if let Some(audio) = self.audio.as_mut().filter(|_| connection.receive) {
                audio.jitter.silence(packet.timestamp);
                audio.silence = Some(Silence::noise(packet.payload));
            }
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
        let arrived = if self.is_prompt { now } else { now.saturating_sub(READ_LATE) };
        self.reception.measure(packet.timestamp, self.is_prompt.then_some(now));
        let Some(audio) = self.audio.as_mut().filter(|_| connection.receive) else { return };
        if matches!(arrival, Arrival::NewSource | Arrival::Restart) {
            audio.jitter.reset();
            audio.decoder.reset();
        }
        audio.jitter.write(packet.timestamp, packet.payload, order, arrived);
        if order == Order::Newest {
            audio.note_silence(packet);
        }
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
        let patience = if self.silent { SILENCE_PATIENCE } else { 1 };
        let timeout = Duration::from_millis(connection.media_timeout_ms.into()) * patience;
        if !timeout.is_zero()
            && connection.receive
            && !self.timed_out
            && now.saturating_sub(self.last_sign) >= timeout
        {
            self.timed_out = true;
            events.push(Event::MediaTimedOut(port));
        }
    }

    fn hear(&mut self, now: Now) {
        let Some(audio) = &mut self.audio else { return self.heard.clear() };
        if let (Some(encoded), None) = (self.heard.encoded(), self.heard.pcm()) {
            audio.decoder.skip(encoded.payload());
        }
        let codec = audio.jitter.codec();
        match audio.jitter.read(self.heard.room(), now) {
            Read::Audio(len) => {
                let octets = self.heard.start_encoded(codec, len);
                audio.is_discontinuous = codec == Codec::Opus && is_silence(codec, octets);
            }
            // An empty frame: whoever needs it decoded hears what the packet before it held, or
            // what covers the loss, and whoever is passed it on sends nothing, so that the far end
            // covers the loss from its own state.
            Read::Continued => self.heard.set_encoded(codec, &[]),
            Read::Lost if codec.law().is_none() => self.heard.set_encoded(codec, &[]),
            Read::Lost => _ = audio.decoder.conceal(self.heard.start_pcm()),
            Read::Nothing => audio.pause(&mut self.heard),
        }
    }

    /// What was heard in this round, as it came.
    #[must_use]
    pub fn encoded(&self, round: u64) -> Option<&Encoded> {
        self.heard.encoded().filter(|_| self.heard_round == Some(round))
    }

    /// The octets of G.711 heard in this round, when nothing but them need be known to decode them.
    #[must_use]
    pub fn plain_octets(&self, round: u64) -> Option<(Law, &Frame)> {
        // Samples that are known may begin with what covers a loss before them.
        if self.heard.pcm().is_some() || !self.audio.as_ref()?.decoder.is_unbroken() {
            return None;
        }
        let encoded = self.encoded(round)?;
        Some((encoded.codec().law()?, encoded.payload().try_into().ok()?))
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
