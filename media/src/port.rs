//! One RTP port without its socket: datagrams and ticks in, packets and events out.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::Now;
use crate::codec::{Codec, Encoded, Pcm};
use crate::dtmf::PressLog;
use crate::event::{Connection, Detect, Event, PlayId, PortFigures, PortId, RecognitionId};
use crate::g711::{Frame, Law};
use crate::outbox::Outbox;
use crate::player::Clips;
use crate::recognition::Reference;
use crate::rtcp::{self, session::Received};
use crate::sound::Sound;

mod key_route;
mod listening;
mod packetizer;
mod playback;
mod receiving;
mod reporting;
mod sending;

pub use key_route::KeyRoute;
pub use reporting::ReportStart;
pub use sending::StreamStart;

use listening::Listening;
use playback::Playback;
use receiving::Receiving;
use reporting::Reporting;
use sending::{Sending, Turn};

/// A far end that claims more jitter than this is mistaken: it would spoil every mean.
const MAX_FAR_JITTER_MS: f64 = 10_000.0;

/// State of one port.
#[derive(Debug)]
pub struct Port {
    id: PortId,
    connection: Option<Connection>,
    receiving: Receiving,
    sending: Sending,
    reporting: Reporting,
    playback: Playback,
    /// Present while something is to be detected in the audio.
    listening: Option<Box<Listening>>,
    /// The sounds that are being learnt for this port.
    learning: Option<RecognitionId>,
    /// Sinks that use the audio received.
    sinks: usize,
}

impl Port {
    /// A port that knows no far end yet.
    #[must_use]
    pub fn new(id: PortId, start: StreamStart, reports: ReportStart) -> Self {
        Self {
            id,
            connection: None,
            receiving: Receiving::default(),
            sending: Sending::new(start),
            reporting: Reporting::new(start.ssrc, reports),
            playback: Playback::default(),
            listening: None,
            learning: None,
            sinks: 0,
        }
    }

    /// Reads a little of all that a tick needs, so that it is in the cache by then; the sum is of
    /// no use.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        let connection = self.connection.as_ref().map_or(0, |connection| {
            u64::from(connection.packet_time_ms) + u64::from(connection.media_timeout_ms)
        });
        let is_listening = u64::from(self.listening.is_some());
        let halves = self.receiving.fetch() + self.sending.fetch() + self.reporting.fetch();
        connection + is_listening + halves
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> PortId {
        self.id
    }

    /// What it speaks; PCMA as long as nothing is negotiated.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.connection.as_ref().map_or(Codec::Pcma, |connection| connection.codec)
    }

    /// Where packets go, once connected.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        let latched = self.receiving.latched();
        latched.or(self.connection.as_ref().map(|connection| connection.remote))
    }

    /// The address negotiated, once connected.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        self.connection.as_ref().map(|connection| connection.remote)
    }

    /// Counts a datagram that was refused before it came here.
    pub fn count_invalid(&mut self) {
        self.receiving.count_invalid();
    }

    /// The one source that would be believed now; None when another one could take its place.
    #[must_use]
    pub fn sole_source(&self, now: Now) -> Option<SocketAddr> {
        self.receiving.sole_source(now)
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> PortFigures {
        let reception = self.receiving.reception();
        let far = self.reporting.far();
        PortFigures {
            packets_sent: self.sending.packets(),
            packets_received: reception.received(),
            packets_lost: reception.lost().max(0).cast_unsigned(),
            packets_invalid: self.receiving.invalid(),
            jitter_ms: reception.jitter_ms(),
            packets_late: self.receiving.discarded(),
            packets_duplicate: reception.duplicates(),
            codec: self.connection.as_ref().map(|connection| connection.codec),
            round_trip_ms: self.reporting.round_trip().map(|time| time.as_secs_f64() * 1000.0),
            mos: self.reporting.quality().mos(),
            worst_mos: self.reporting.quality().worst_mos(),
            far_packets_lost: far.map(|far| far.lost.into()),
            far_jitter_ms: far
                .map(|far| f64::from(far.jitter) * 1000.0 / f64::from(self.codec().clock_rate_hz()))
                .filter(|jitter_ms| *jitter_ms <= MAX_FAR_JITTER_MS),
        }
    }

    /// Takes over what was negotiated.
    pub fn connect(&mut self, connection: Connection, now: Now) {
        let former = self.connection.as_ref();
        self.receiving.connect(former, &connection, now);
        self.reporting.connect(former, &connection, now);
        let packets = |of: &Connection| (of.codec, of.packet_time_ms);
        if former.is_none_or(|former| packets(former) != packets(&connection)) {
            self.sending.reset(connection.codec, connection.packet_time_ms);
        }
        let detect = connection.detect;
        self.connection = Some(connection);
        self.listen(detect);
    }

    /// Makes the detectors that are needed, and no others.
    fn listen(&mut self, detect: Detect) {
        match &mut self.listening {
            Some(listening) => listening.change(detect),
            None if detect != Detect::default() => {
                self.listening = Some(Box::new(Listening::to(detect)));
            }
            None => {}
        }
        self.listening.take_if(|listening| listening.is_idle());
        self.set_listeners(self.sinks);
    }

    /// What was asked for when the port was connected.
    fn detect(&self) -> Detect {
        self.connection.as_ref().map_or(Detect::default(), |connection| connection.detect)
    }

    /// Forgets the sounds that were listened for; others are being learnt, or none.
    pub fn recognise(&mut self, recognition: Option<RecognitionId>) {
        self.learning = recognition;
        if let Some(listening) = &mut self.listening {
            listening.recognise(None);
        }
        self.listen(self.detect());
    }

    /// Begins to listen for sounds, unless others are wanted by now; what cannot be is told.
    pub fn learnt(
        &mut self,
        recognition: RecognitionId,
        sounds: Result<Vec<Arc<Reference>>, String>,
    ) -> Option<Event> {
        self.learning.take_if(|learning| *learning == recognition)?;
        match sounds {
            Ok(sounds) => {
                let detect = self.detect();
                let listening =
                    self.listening.get_or_insert_with(|| Box::new(Listening::to(detect)));
                listening.recognise(Some((recognition, sounds)));
                self.set_listeners(self.sinks);
                None
            }
            Err(error) => Some(Event::RecognitionFailed(self.id, recognition, error)),
        }
    }

    /// Begins a play whose files are being loaded; what played before is replaced silently.
    pub fn play(&mut self, play: PlayId, looped: bool) {
        self.playback.load(play, looped);
    }

    /// Takes the loaded clips, unless the play was stopped or replaced meanwhile.
    pub fn loaded(&mut self, play: PlayId, clips: Result<Clips, String>, events: &mut Vec<Event>) {
        self.playback.loaded(self.id, play, clips, events);
    }

    /// Stops what plays.
    pub fn stop_play(&mut self, events: &mut Vec<Event>) {
        self.playback.stop(self.id, events);
    }

    /// Appends digits to those being sent: as telephone events where they were negotiated, else as
    /// tones. An unconnected port sends none, and the wait for them ends at once.
    pub fn send_digits(
        &mut self,
        digits: &str,
        tone_ms: u32,
        gap_ms: u32,
        events: &mut Vec<Event>,
    ) {
        if self.connection.is_some() {
            self.sending.push_digits(digits, tone_ms, gap_ms);
        }
        if self.sending.is_digits_idle() {
            events.push(Event::DigitsSent(self.id));
        }
    }

    /// Begins to send a key that the other party holds down.
    pub fn press_key(&mut self, key: char) {
        if self.connection.is_some() {
            self.sending.press_key(key);
        }
    }

    /// Ends it, when it was held for so long.
    pub fn release_key(&mut self, duration_ms: u32) {
        self.sending.release_key(duration_ms);
    }

    /// The keys that the far end presses by RFC 4733.
    #[must_use]
    pub fn key_log(&self) -> &PressLog {
        self.receiving.key_log()
    }

    /// Says how many sinks use the audio received: ports, recordings, taps.
    pub fn set_listeners(&mut self, listeners: usize) {
        self.sinks = listeners;
        let detectors = usize::from(self.listening.is_some());
        self.receiving.set_listeners(listeners + detectors);
    }

    /// Says whether the next datagram is handed in as it came, or some time in 20 ms.
    pub fn set_prompt(&mut self, is_prompt: bool) {
        self.receiving.set_prompt(is_prompt);
    }

    /// Whether nothing is lost by looking once in 20 ms at what comes from now on.
    #[must_use]
    pub fn is_calm(&mut self) -> bool {
        self.receiving.is_calm()
    }

    /// Whether that is still so after such a look, in time, has found so many datagrams.
    #[must_use]
    pub fn stays_calm(&mut self, found: usize) -> bool {
        self.receiving.stays_calm(found)
    }

    /// Takes in a datagram; false when it is not valid RTP of this port.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        if rtcp::is_rtcp(datagram) {
            return self.receive_report(datagram, from, now);
        }
        // Before the negotiation is known nothing can be judged: early media is left alone.
        let Some(connection) = &self.connection else { return true };
        let already = events.len();
        let accepted = self.receiving.receive(self.id, connection, datagram, from, now, events);
        if let Some(listening) = &self.listening
            && let Some(Event::Digit(_, key, ..)) = events.get(already)
            && listening.has_reported(*key, now)
        {
            events.remove(already);
        }
        accepted
    }

    /// Takes in a datagram of RTCP; false when it is not valid, or not of the far end.
    pub fn receive_report(&mut self, datagram: &[u8], from: SocketAddr, now: Now) -> bool {
        let Some(connection) = &self.connection else { return true };
        let Some(received) = self.reporting.receive(connection, datagram, from, now) else {
            self.receiving.count_invalid();
            return false;
        };
        // A far end that is on hold or silent reports all the same: it is there.
        if received == Received::Alive {
            self.receiving.note_sign(now);
        }
        true
    }

    /// The last words: a report that says goodbye, and the score of what was not judged yet.
    pub fn close(&mut self, now: Now, out: &mut Outbox) {
        let (Some(to), Some(connection)) = (self.destination(), &self.connection) else { return };
        self.reporting.judge(connection, &self.receiving);
        let (receiving, sending) = (&self.receiving, &self.sending);
        self.reporting.send(connection, receiving, sending, to, now, true, out);
    }

    /// The receiving half of a tick: reads the jitter buffer and looks at time limits.
    pub fn tick_receive(&mut self, round: u64, now: Now, events: &mut Vec<Event>) {
        let Some(connection) = &self.connection else { return };
        self.receiving.tick(self.id, connection, round, now, events);
        if let Some(listening) = &mut self.listening {
            let has_events = self.receiving.key_log().begun() > 0;
            let pcm = self.receiving.pcm(round);
            listening.hear(self.id, round, pcm, has_events, now, events);
            if listening.is_idle() {
                self.listen(self.detect());
            }
        }
    }

    /// The round of the last tick, once there was one.
    #[must_use]
    pub fn last_round(&self) -> Option<u64> {
        self.sending.last_round()
    }

    /// What was heard in this round, as it came.
    #[must_use]
    pub fn encoded(&self, round: u64) -> Option<&Encoded> {
        self.receiving.encoded(round)
    }

    /// The octets of G.711 heard in this round, when nothing but them need be known to decode them.
    #[must_use]
    pub fn plain_octets(&self, round: u64) -> Option<(Law, &Frame)> {
        self.receiving.plain_octets(round)
    }

    /// What was heard in this round, decoded when it is asked for the first time.
    pub fn pcm(&mut self, round: u64) -> Option<&Pcm> {
        self.receiving.pcm(round)
    }

    /// The sending half of a tick: puts what is due into `out`.
    ///
    /// `sound` is what the routes give this port to hear; what plays takes its place.
    pub fn tick_send(
        &mut self,
        round: u64,
        now: Now,
        sound: &mut Sound,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        let (Some(to), Some(connection)) = (self.destination(), &self.connection) else { return };
        let Some(timestamp) = self.sending.enter(round, connection.codec) else { return };
        self.reporting.tick(connection, &self.receiving, &self.sending, to, now, out);
        match self.sending.digits(self.id, connection, to, timestamp, sound, out, events) {
            Turn::Sent => return,
            Turn::Tone => {}
            Turn::Audio => self.playback.fill(self.id, connection.codec, sound, events),
        }
        self.sending.audio(connection, to, timestamp, sound, out);
    }
}

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tests;
