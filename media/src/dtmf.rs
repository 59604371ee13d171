//! Telephone events: RFC 4733, of any RTP clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Now;
use crate::g711::FRAME_MS;
use crate::rtp::{Packet, RtpTimestamp, Ssrc};

const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// A press whose end packets are all lost ends when nothing of it came for this long: packets
/// come every 20 to 50 ms, so at least two are missing, and jitter is allowed for.
const LOST_END: Duration = Duration::from_millis(120);

/// Longest duration of one event; a longer press goes on in a new segment, section 2.5.1.3. With
/// the clock of Opus that is 1.4 s.
const SEGMENT_TICKS: u32 = u16::MAX as u32;

/// Shortest press sent; Q.24 asks receivers for 40 ms.
const MIN_TONE_MS: u32 = 2 * FRAME_MS;

/// Longest press that is sent at once.
const MAX_TONE_MS: u32 = 60_000;

/// No finger and no dialler presses faster for long: each press is an event for the application.
const PRESS_SPACING: Duration = Duration::from_millis(25);

/// How far presses may run ahead of that spacing: 16 that the network has held up and lets go.
const PRESS_BURST: Duration = Duration::from_millis(400);

/// Keys of others that may wait to be sent on. They come faster than they can be sent only from
/// a far end that means harm.
const MAX_WAITING_PRESSES: usize = 32;

/// Presses remembered for those who pass them on: more than can end within 20 ms.
const LOG_LEN: usize = 4;

/// Level we send at, in -dBm0.
const VOLUME: u8 = 10;

/// The end packet is sent three times, section 2.5.1.4.
const END_PACKETS: u8 = 3;

/// Length of the payload of a telephone event.
pub const PAYLOAD_LEN: usize = 4;

/// A key that was pressed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// `0-9*#A-D`.
    pub key: char,
    /// How long, as far as its packets tell.
    pub duration_ms: u32,
}

/// A press as it goes on, for those who pass it on while the key is still held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ongoing {
    /// How many presses had begun when this one began, itself included.
    pub number: u64,
    /// `0-9*#A-D`.
    pub key: char,
    /// So far.
    pub duration_ms: u32,
    /// Whether the key has been released.
    pub ended: bool,
}

/// The last presses of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct PressLog {
    begun: u64,
    last: [Option<Ongoing>; LOG_LEN],
}

impl PressLog {
    /// How many presses have begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Presses from this number on, oldest first.
    pub fn since(&self, number: u64) -> impl Iterator<Item = Ongoing> + '_ {
        self.last.iter().flatten().filter(move |press| press.number >= number).copied()
    }

    fn begin(&mut self, key: char) {
        self.begun += 1;
        self.last.rotate_left(1);
        self.last[LOG_LEN - 1] =
            Some(Ongoing { number: self.begun, key, duration_ms: 0, ended: false });
    }

    fn update(&mut self, duration_ms: u32, ended: bool) {
        if let Some(press) = &mut self.last[LOG_LEN - 1] {
            press.duration_ms = duration_ms;
            press.ended |= ended;
        }
    }
}

/// Turns event packets into presses, one per press.
#[derive(Debug)]
pub struct Receiver {
    clock_rate_hz: u32,
    current: Option<Event>,
    log: PressLog,
    /// Until when the presses so far would last at their closest spacing.
    paced_until: Now,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            clock_rate_hz: 8000,
            current: None,
            log: PressLog::default(),
            paced_until: Now::ZERO,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Event {
    /// Not always that of the audio.
    ssrc: Ssrc,
    code: u8,
    timestamp: RtpTimestamp,
    duration_ticks: u16,
    /// Duration of earlier segments of the same press.
    before_ticks: u32,
    seen: Now,
    reported: bool,
}

impl Event {
    fn duration_ms(&self, clock_rate_hz: u32) -> u32 {
        let ticks = u64::from(self.before_ticks) + u64::from(self.duration_ticks);
        (ticks * 1000 / u64::from(clock_rate_hz.max(1))) as u32
    }

    fn report(&mut self, clock_rate_hz: u32) -> Option<Press> {
        if self.reported {
            return None;
        }
        self.reported = true;
        let duration_ms = self.duration_ms(clock_rate_hz);
        Some(Press { key: KEYS[usize::from(self.code)].into(), duration_ms })
    }
}

impl Receiver {
    /// Sets the clock in which durations are given: that of the audio.
    pub fn set_clock_rate(&mut self, clock_rate_hz: u32) {
        self.clock_rate_hz = clock_rate_hz;
    }

    /// The presses, the last of which may go on.
    #[must_use]
    pub fn log(&self) -> &PressLog {
        &self.log
    }

    /// Takes in an event packet; None when its payload is malformed.
    ///
    /// The inner list holds what ended: by its end bit, or because another press began.
    pub fn receive(&mut self, packet: &Packet<'_>, now: Now) -> Option<[Option<Press>; 2]> {
        let payload = packet.payload.first_chunk::<PAYLOAD_LEN>()?;
        let [code, flags, high, low] = *payload;
        if usize::from(code) >= KEYS.len() {
            return Some([None, None]); // flash and the events of other registries
        }
        let duration_ticks = u16::from_be_bytes([high, low]);
        let other_source = self.current.take_if(|event| event.ssrc != packet.ssrc);
        let mut ended_by_next = self.close(other_source);
        let ahead = self.current.map(|event| packet.timestamp.since(event.timestamp));
        match (&mut self.current, ahead) {
            (Some(_), Some(..0)) => return Some([None, None]), // older than what is known
            (Some(event), Some(0)) => {
                event.duration_ticks = event.duration_ticks.max(duration_ticks);
                event.seen = now;
            }
            (current, _) => {
                let former = current.take();
                let before_ticks = former.and_then(|former| former.segments_before(packet, code));
                if before_ticks.is_none() {
                    ended_by_next = self.close(former).or(ended_by_next);
                    if !self.admits(now) {
                        return Some([ended_by_next, None]);
                    }
                    self.log.begin(KEYS[usize::from(code)].into());
                }
                self.current = Some(Event {
                    ssrc: packet.ssrc,
                    code,
                    timestamp: packet.timestamp,
                    duration_ticks,
                    before_ticks: before_ticks.unwrap_or(0),
                    seen: now,
                    reported: false,
                });
            }
        }
        let ended = if flags & 0x80 == 0 { None } else { self.end() };
        if let Some(event) = self.current.filter(|event| !event.reported) {
            self.log.update(event.duration_ms(self.clock_rate_hz), false);
        }
        Some([ended_by_next, ended])
    }

    /// Whether a press may begin now.
    fn admits(&mut self, now: Now) -> bool {
        let admits = self.paced_until <= now + PRESS_BURST;
        if admits {
            self.paced_until = self.paced_until.max(now) + PRESS_SPACING;
        }
        admits
    }

    /// Ends a press whose end was lost.
    pub fn poll(&mut self, now: Now) -> Option<Press> {
        if now.saturating_sub(self.current?.seen) < LOST_END {
            return None;
        }
        self.end()
    }

    /// Forgets the last press, as for a new sender; an unfinished press is given back.
    pub fn reset(&mut self) -> Option<Press> {
        let event = self.current.take();
        self.close(event)
    }

    fn end(&mut self) -> Option<Press> {
        let press = self.current.as_mut()?.report(self.clock_rate_hz)?;
        self.log.update(press.duration_ms, true);
        Some(press)
    }

    fn close(&mut self, event: Option<Event>) -> Option<Press> {
        let press = event?.report(self.clock_rate_hz)?;
        self.log.update(press.duration_ms, true);
        Some(press)
    }
}

impl Event {
    /// Ticks before a packet that goes on with this press in a later segment; None when the packet
    /// is of another press. Segments in between may all have been lost.
    fn segments_before(&self, packet: &Packet<'_>, code: u8) -> Option<u32> {
        let ahead = u32::try_from(packet.timestamp.since(self.timestamp)).ok()?;
        let continues = !packet.marker
            && self.code == code
            && !self.reported
            && ahead.is_multiple_of(SEGMENT_TICKS);
        continues.then(|| self.before_ticks.saturating_add(ahead))
    }
}

/// What to send in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// No event: audio goes out.
    Audio,
    /// An event packet in place of audio, or, where events were not negotiated, its tone.
    Packet {
        /// Set on the first packet of a press.
        marker: bool,
        /// Start of the press or of its segment, the same on all its packets.
        timestamp: RtpTimestamp,
        /// Event, end bit, volume and duration.
        payload: [u8; PAYLOAD_LEN],
        /// What the tone of the key does in these 20 ms.
        tone: Tone,
    },
    /// Audio goes out, and the last digit with its gap is done.
    Finished,
}

/// What the tone of a key does in 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It begins.
    First(char),
    /// It sounds on.
    On,
    /// It sounds for the last time.
    Last,
    /// It is over, and the end is told again.
    Over,
}

/// Sends presses, one 20 ms step a call.
#[derive(Debug, Default)]
pub struct Sender {
    waiting: VecDeque<Key>,
    pressing: Option<Pressing>,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    code: u8,
    /// None as long as it is held and nobody knows for how long.
    tone_ms: Option<u32>,
    gap_frames: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pressing {
    key: Key,
    start: RtpTimestamp,
    sent_ms: u32,
    end_packets: u8,
    gap_frames: u32,
}

/// The event code of a key, RFC 4733 table 3.
#[must_use]
pub fn code_of(key: char) -> Option<u8> {
    KEYS.iter().position(|known| char::from(*known) == key.to_ascii_uppercase()).map(|at| at as u8)
}

impl Sender {
    /// Appends presses; unknown keys are left out. Times are rounded up to 20 ms.
    pub fn push(&mut self, digits: &str, tone_ms: u32, gap_ms: u32) {
        let tone_ms = tone_ms.next_multiple_of(FRAME_MS).clamp(MIN_TONE_MS, MAX_TONE_MS);
        let gap_frames = gap_ms.div_ceil(FRAME_MS).max(u32::from(END_PACKETS));
        for code in digits.chars().filter_map(code_of) {
            self.waiting.push_back(Key { code, tone_ms: Some(tone_ms), gap_frames });
        }
    }

    /// Appends a press of a key that is being held; `release` ends it.
    pub fn press(&mut self, key: char) {
        self.release(0);
        if let Some(code) = code_of(key).filter(|_| self.waiting.len() < MAX_WAITING_PRESSES) {
            let gap_frames = u32::from(END_PACKETS);
            self.waiting.push_back(Key { code, tone_ms: None, gap_frames });
        }
    }

    /// The key that is held has been released after so long, or after what has been sent already
    /// if that is more.
    pub fn release(&mut self, duration_ms: u32) {
        let pressing = self.pressing.as_mut().map(|pressing| &mut pressing.key);
        for key in self.waiting.iter_mut().chain(pressing) {
            let tone_ms = duration_ms.clamp(MIN_TONE_MS, MAX_TONE_MS);
            key.tone_ms.get_or_insert(tone_ms);
        }
    }

    /// Whether there is anything to send.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pressing.is_none() && self.waiting.is_empty()
    }

    /// Advances by 20 ms; `timestamp` is the RTP time of this tick, and `frame_ticks` how much it
    /// advances in one.
    pub fn step(&mut self, timestamp: RtpTimestamp, frame_ticks: u32) -> Sending {
        if self.pressing.is_none() {
            let Some(key) = self.waiting.pop_front() else { return Sending::Audio };
            let start = timestamp;
            self.pressing =
                Some(Pressing { key, start, sent_ms: 0, end_packets: 0, gap_frames: 0 });
        }
        let Some(pressing) = &mut self.pressing else { return Sending::Audio };
        if pressing.end_packets < END_PACKETS {
            return pressing.packet(frame_ticks);
        }
        pressing.gap_frames += 1;
        if pressing.gap_frames < pressing.key.gap_frames {
            return Sending::Audio;
        }
        self.pressing = None;
        if self.waiting.is_empty() { Sending::Finished } else { Sending::Audio }
    }
}

impl Pressing {
    fn packet(&mut self, frame_ticks: u32) -> Sending {
        let first = self.sent_ms == 0;
        if self.end_packets == 0 {
            let next_ms = self.sent_ms + FRAME_MS;
            self.sent_ms = match self.key.tone_ms {
                Some(tone_ms) => next_ms.min(tone_ms.max(self.sent_ms)),
                None => next_ms,
            };
        }
        let end = self.key.tone_ms.is_some_and(|tone_ms| self.sent_ms >= tone_ms);
        let tone = match (first, end, self.end_packets) {
            (true, ..) => Tone::First(KEYS[usize::from(self.key.code)].into()),
            (_, true, 0) => Tone::Last,
            (_, true, _) => Tone::Over,
            _ => Tone::On,
        };
        if end {
            // The repetitions are sent in the gap and count as part of it.
            self.gap_frames = u32::from(self.end_packets);
            self.end_packets += 1;
        }
        let ticks = u64::from(self.sent_ms) * u64::from(frame_ticks) / u64::from(FRAME_MS);
        let segment = ticks.saturating_sub(1) as u32 / SEGMENT_TICKS * SEGMENT_TICKS;
        let [high, low] = ((ticks as u32 - segment) as u16).to_be_bytes();
        let flags = (u8::from(end) << 7) | VOLUME;
        Sending::Packet {
            marker: first,
            timestamp: self.start.after(segment),
            payload: [self.key.code, flags, high, low],
            tone,
        }
    }
}

#[cfg(test)]
mod tests;
