//! Passive jitter buffer: a ring of octets addressed by RTP time, read 20 ms at a time.
//!
//! It has no timer and no list of packets: any packet length fits, reordering and duplicates
//! resolve themselves, and lost octets are the ones not marked present.

use crate::g711::{FRAME_SAMPLES, Frame, Law};
use crate::rtp::RtpTimestamp;

/// Octets in the ring, 256 ms.
const CAPACITY: usize = 2048;

const FRAME_TICKS: u32 = FRAME_SAMPLES as u32;

/// Buffered time aimed at, at first and at most.
const MIN_TARGET_TICKS: u32 = 2 * FRAME_TICKS;
const MAX_TARGET_TICKS: u32 = 5 * FRAME_TICKS;

/// More than this is never kept: a burst is cut back to the target.
const MAX_LEVEL_TICKS: i32 = 10 * FRAME_TICKS.cast_signed();

/// A packet this late is not late but a new time line.
const RESTART_TICKS: i32 = -8000;

/// Reads between two checks for surplus delay, 5 s.
const WINDOW_READS: u32 = 250;

/// Windows without starving after which a raised target comes down, 20 s.
const CALM_WINDOWS: u32 = 4;

/// A packet that comes within this many reads of starving was late; later it ends a pause.
const LATE_READS: u32 = 10;

/// Lost frames covered by the fading last one.
const MAX_CONCEALED: u32 = 2;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Received audio, perhaps with silence for lost octets.
    Audio,
    /// The last frame, fading.
    Concealed,
    /// Nothing is known of these 20 ms; the frame was not written.
    Nothing,
}

/// The buffer of one port.
#[derive(Debug)]
pub struct JitterBuffer {
    octets: Box<[u8; CAPACITY]>,
    present: [u64; CAPACITY / 64],
    /// Time of the next octet to read; None before the first packet.
    playout: Option<RtpTimestamp>,
    /// Time after the newest octet.
    end: RtpTimestamp,
    /// Waiting until enough is buffered; counts the reads of that wait.
    filling: Option<u32>,
    /// Reads since the buffer ran empty, until the next packet.
    starved: Option<u32>,
    target_ticks: u32,
    packet_ticks: u32,
    window: Window,
    last: Frame,
    concealed: u32,
}

#[derive(Debug, Default)]
struct Window {
    reads: u32,
    lowest_ticks: u32,
    starved: bool,
    calm: u32,
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self {
            octets: Box::new([0; CAPACITY]),
            present: [0; CAPACITY / 64],
            playout: None,
            end: RtpTimestamp(0),
            filling: None,
            starved: None,
            target_ticks: MIN_TARGET_TICKS,
            packet_ticks: FRAME_TICKS,
            window: Window::default(),
            last: [0; FRAME_SAMPLES],
            concealed: MAX_CONCEALED,
        }
    }
}

impl JitterBuffer {
    /// Forgets everything, as for a new sender or another law.
    pub fn reset(&mut self) {
        self.playout = None;
        self.starved = None;
        self.target_ticks = MIN_TARGET_TICKS;
        self.window = Window::default();
        self.concealed = MAX_CONCEALED;
    }

    /// Takes in the payload of an audio packet; more than the ring holds is cut off.
    pub fn write(&mut self, timestamp: RtpTimestamp, payload: &[u8]) {
        let payload = &payload[..payload.len().min(CAPACITY / 2)];
        let ticks = payload.len() as u32;
        if ticks == 0 {
            return;
        }
        self.packet_ticks = ticks;
        let Some(playout) = self.playout else {
            return self.start(timestamp, payload);
        };
        let offset = timestamp.since(playout);
        let packet_end = offset.saturating_add(ticks.cast_signed());
        let empty = self.level() == 0;
        if offset < RESTART_TICKS || packet_end > CAPACITY as i32 || (empty && offset > 0) {
            self.note_arrival();
            return self.start(timestamp, payload);
        }
        if packet_end <= 0 {
            return; // too late, its place was concealed
        }
        self.note_arrival();
        let late = offset.min(0).unsigned_abs();
        self.store(timestamp.after(late), &payload[late as usize..]);
        let newest = timestamp.after(ticks);
        if newest.since(self.end) > 0 {
            self.end = newest;
        }
        let level = self.level();
        if level > MAX_LEVEL_TICKS {
            self.skip(level.unsigned_abs() - self.needed_ticks());
        }
    }

    /// Reads the next 20 ms.
    pub fn read(&mut self, law: Law, frame: &mut Frame) -> Read {
        let Some(playout) = self.playout else { return Read::Nothing };
        let level = self.level().unsigned_abs();
        if let Some(waited) = &mut self.filling {
            *waited += 1;
            let waited_ticks = *waited * FRAME_TICKS;
            let needed = self.needed_ticks();
            if level < FRAME_TICKS || (level < needed && waited_ticks < needed) {
                self.starved = self.starved.map(|reads| reads + 1);
                return self.conceal(law, frame);
            }
            self.filling = None;
        }
        if level < FRAME_TICKS {
            self.filling = Some(0);
            self.starved = Some(0);
            return self.conceal(law, frame);
        }
        let playout = if self.has_surplus(level) {
            self.skip(FRAME_TICKS);
            playout.after(FRAME_TICKS)
        } else {
            playout
        };
        let present = self.load(law, playout, frame);
        self.skip(FRAME_TICKS);
        if present == 0 {
            return self.conceal(law, frame);
        }
        self.last = *frame;
        self.concealed = 0;
        Read::Audio
    }

    fn start(&mut self, timestamp: RtpTimestamp, payload: &[u8]) {
        self.present.fill(0);
        self.playout = Some(timestamp);
        self.end = timestamp.after(payload.len() as u32);
        self.filling = Some(0);
        self.store(timestamp, payload);
    }

    /// Raises the target when the packet comes shortly after it was missed.
    fn note_arrival(&mut self) {
        if let Some(reads) = self.starved.take()
            && reads < LATE_READS
        {
            self.window.starved = true;
            self.target_ticks = (self.target_ticks + FRAME_TICKS).min(MAX_TARGET_TICKS);
        }
    }

    /// Buffered time, never negative.
    fn level(&self) -> i32 {
        self.playout.map_or(0, |playout| self.end.since(playout).max(0))
    }

    /// One packet more than the longest is needed, else every packet is just late.
    fn needed_ticks(&self) -> u32 {
        self.target_ticks.max(self.packet_ticks + FRAME_TICKS)
    }

    /// True once per window when more is buffered than needed all the time: the sender's clock is
    /// faster than ours, or jitter has gone.
    fn has_surplus(&mut self, level: u32) -> bool {
        let needed = self.needed_ticks();
        let window = &mut self.window;
        window.lowest_ticks =
            if window.reads == 0 { level } else { window.lowest_ticks.min(level) };
        window.reads += 1;
        if window.reads < WINDOW_READS {
            return false;
        }
        let surplus = window.lowest_ticks > needed;
        window.calm = if window.starved { 0 } else { window.calm + 1 };
        if window.calm >= CALM_WINDOWS && self.target_ticks > MIN_TARGET_TICKS {
            self.target_ticks -= FRAME_TICKS;
            window.calm = 0;
        }
        window.reads = 0;
        window.starved = false;
        surplus
    }

    fn conceal(&mut self, law: Law, frame: &mut Frame) -> Read {
        if self.concealed >= MAX_CONCEALED {
            return Read::Nothing;
        }
        self.concealed += 1;
        for (out, octet) in frame.iter_mut().zip(&self.last) {
            *out = law.encode(law.decode(*octet) >> self.concealed);
        }
        Read::Concealed
    }

    fn store(&mut self, timestamp: RtpTimestamp, payload: &[u8]) {
        let at = ring_index(timestamp);
        let (head, tail) = payload.split_at(payload.len().min(CAPACITY - at));
        self.octets[at..at + head.len()].copy_from_slice(head);
        self.octets[..tail.len()].copy_from_slice(tail);
        for_words(at, payload.len(), |word, mask| self.present[word] |= mask);
    }

    /// Copies a frame out, silence where octets are missing; returns how many are present.
    fn load(&self, law: Law, timestamp: RtpTimestamp, frame: &mut Frame) -> u32 {
        let at = ring_index(timestamp);
        let head = FRAME_SAMPLES.min(CAPACITY - at);
        frame[..head].copy_from_slice(&self.octets[at..at + head]);
        frame[head..].copy_from_slice(&self.octets[..FRAME_SAMPLES - head]);
        let mut present = 0;
        for_words(at, FRAME_SAMPLES, |word, mask| {
            present += (self.present[word] & mask).count_ones();
        });
        if present != 0 && present != FRAME_TICKS {
            for (index, octet) in frame.iter_mut().enumerate() {
                let bit = (at + index) % CAPACITY;
                if self.present[bit / 64] >> (bit % 64) & 1 == 0 {
                    *octet = law.silence();
                }
            }
        }
        present
    }

    /// Moves on by `ticks` without reading them.
    fn skip(&mut self, ticks: u32) {
        let Some(playout) = self.playout else { return };
        let length = (ticks as usize).min(CAPACITY);
        for_words(ring_index(playout), length, |word, mask| self.present[word] &= !mask);
        self.playout = Some(playout.after(ticks));
    }
}

fn ring_index(timestamp: RtpTimestamp) -> usize {
    timestamp.0 as usize % CAPACITY
}

/// Calls `apply` with the index and mask of each word that holds bits of the ring's range.
fn for_words(start: usize, length: usize, mut apply: impl FnMut(usize, u64)) {
    let mut at = start;
    let mut remaining = length;
    while remaining > 0 {
        let bit = at % 64;
        let count = (64 - bit).min(remaining);
        apply(at / 64, (u64::MAX >> (64 - count)) << bit);
        at = (at + count) % CAPACITY;
        remaining -= count;
    }
}

#[cfg(test)]
mod tests;
