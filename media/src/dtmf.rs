//! Telephone events: RFC 4733.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Now;
use crate::g711::{FRAME_MS, FRAME_SAMPLES};
use crate::rtp::{Packet, RtpTimestamp, Ssrc};

const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// A press whose end packets are all lost ends when nothing of it came for this long: packets
/// come every 20 to 50 ms, so at least two are missing, and jitter is allowed for.
const LOST_END: Duration = Duration::from_millis(120);

/// Longest duration of one event; a longer press goes on in a new segment, section 2.5.1.3.
const SEGMENT_TICKS: u16 = u16::MAX;

/// Level we send at, in -dBm0.
const VOLUME: u8 = 10;

/// The end packet is sent three times, section 2.5.1.4.
const END_PACKETS: u8 = 3;

const FRAME_TICKS: u16 = FRAME_SAMPLES as u16;

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

/// Turns event packets into presses, one per press.
#[derive(Debug, Default)]
pub struct Receiver {
    current: Option<Event>,
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
    fn report(&mut self) -> Option<Press> {
        if self.reported {
            return None;
        }
        self.reported = true;
        let ticks = self.before_ticks + u32::from(self.duration_ticks);
        Some(Press {
            key: KEYS[usize::from(self.code)].into(),
            duration_ms: ticks * FRAME_MS / u32::from(FRAME_TICKS),
        })
    }
}

impl Receiver {
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
        let mut ended_by_next = self
            .current
            .take_if(|event| event.ssrc != packet.ssrc)
            .and_then(|mut event| event.report());
        let ahead = self.current.map(|event| packet.timestamp.since(event.timestamp));
        match (&mut self.current, ahead) {
            (Some(_), Some(..0)) => return Some([None, None]), // older than what is known
            (Some(event), Some(0)) => {
                event.duration_ticks = event.duration_ticks.max(duration_ticks);
                event.seen = now;
            }
            (current, _) => {
                let mut event = Event {
                    ssrc: packet.ssrc,
                    code,
                    timestamp: packet.timestamp,
                    duration_ticks,
                    before_ticks: 0,
                    seen: now,
                    reported: false,
                };
                if let Some(former) = current {
                    let continues = !packet.marker
                        && former.code == code
                        && !former.reported
                        && ahead == Some(i32::from(SEGMENT_TICKS));
                    if continues {
                        event.before_ticks = former.before_ticks + u32::from(SEGMENT_TICKS);
                    } else {
                        ended_by_next = former.report();
                    }
                }
                *current = Some(event);
            }
        }
        let end = flags & 0x80 != 0;
        let ended = self.current.as_mut().filter(|_| end).and_then(Event::report);
        Some([ended_by_next, ended])
    }

    /// Ends a press whose end was lost.
    pub fn poll(&mut self, now: Now) -> Option<Press> {
        let event = self.current.as_mut()?;
        if now.saturating_sub(event.seen) < LOST_END {
            return None;
        }
        event.report()
    }

    /// Forgets the last press, as for a new sender; an unfinished press is given back.
    pub fn reset(&mut self) -> Option<Press> {
        self.current.take().and_then(|mut event| event.report())
    }
}

/// What to send in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// No event: audio goes out.
    Audio,
    /// An event packet in place of audio.
    Packet {
        /// Set on the first packet of a press.
        marker: bool,
        /// Start of the press, the same on all its packets.
        timestamp: RtpTimestamp,
        /// Event, end bit, volume and duration.
        payload: [u8; PAYLOAD_LEN],
    },
    /// Audio goes out, and the last digit with its gap is done.
    Finished,
}

/// Sends presses, one 20 ms step a call.
#[derive(Debug, Default)]
pub struct Sender {
    waiting: VecDeque<Tone>,
    pressing: Option<Pressing>,
}

#[derive(Clone, Copy, Debug)]
struct Tone {
    code: u8,
    tone_ticks: u16,
    gap_frames: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pressing {
    tone: Tone,
    timestamp: RtpTimestamp,
    sent_ticks: u16,
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
        let tone_frames = tone_ms.div_ceil(FRAME_MS).clamp(2, u32::from(u16::MAX / FRAME_TICKS));
        for code in digits.chars().filter_map(code_of) {
            self.waiting.push_back(Tone {
                code,
                tone_ticks: tone_frames as u16 * FRAME_TICKS,
                gap_frames: gap_ms.div_ceil(FRAME_MS).max(u32::from(END_PACKETS)),
            });
        }
    }

    /// Whether there is anything to send.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pressing.is_none() && self.waiting.is_empty()
    }

    /// Advances by 20 ms; `timestamp` is the RTP time of this tick.
    pub fn step(&mut self, timestamp: RtpTimestamp) -> Sending {
        if self.pressing.is_none() {
            let Some(tone) = self.waiting.pop_front() else { return Sending::Audio };
            self.pressing =
                Some(Pressing { tone, timestamp, sent_ticks: 0, end_packets: 0, gap_frames: 0 });
        }
        let Some(pressing) = &mut self.pressing else { return Sending::Audio };
        if pressing.end_packets < END_PACKETS {
            return pressing.packet();
        }
        pressing.gap_frames += 1;
        if pressing.gap_frames < pressing.tone.gap_frames {
            return Sending::Audio;
        }
        self.pressing = None;
        if self.waiting.is_empty() { Sending::Finished } else { Sending::Audio }
    }
}

impl Pressing {
    fn packet(&mut self) -> Sending {
        let marker = self.sent_ticks == 0;
        self.sent_ticks = (self.sent_ticks + FRAME_TICKS).min(self.tone.tone_ticks);
        let end = self.sent_ticks == self.tone.tone_ticks;
        if end {
            // The repetitions are sent in the gap and count as part of it.
            self.gap_frames = u32::from(self.end_packets);
            self.end_packets += 1;
        }
        let [high, low] = self.sent_ticks.to_be_bytes();
        let flags = (u8::from(end) << 7) | VOLUME;
        Sending::Packet {
            marker,
            timestamp: self.timestamp,
            payload: [self.tone.code, flags, high, low],
        }
    }
}

#[cfg(test)]
mod tests;
