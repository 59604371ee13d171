//! Adaptive passive jitter buffer: a ring addressed by RTP time, read 20 ms at a time.
//!
//! It has no timer and no list of packets, and allocates nothing after it was made. Its time line
//! runs with the reads: each takes the next 20 ms whether they have come or not. How long before
//! its turn a packet comes is its margin, and the margins alone steer the delay:
//!
//! * A packet that comes after its turn, with nothing newer played, sets the time line back to
//!   itself: the delay rises at once by what was missing, and nothing is thrown away.
//! * When for 16 s every packet came more than 20 ms before its turn, 20 ms are left out: the delay
//!   falls slowly, at most 20 ms a second, and where audio is missing anyway if it can.
//! * The first packet after a pause is given a fresh place, as far ahead as packets spread.
//!
//! A sender whose clock is faster or slower than ours is met by the same rules.

use crate::clock::Now;
use crate::codec::{Codec, MAX_FRAME_LEN};
use crate::rtp::RtpTimestamp;

mod margins;
mod octets;
mod packets;

use margins::Margins;
use octets::OctetRing;
use packets::PacketRing;

/// Frames of 20 ms in a ring: 240 ms, and what a late packet may need.
const CAPACITY_FRAMES: i32 = 12;

/// More than this is never kept: a burst is cut back to the target.
const MAX_LEVEL_FRAMES: i32 = 10;

/// The largest delay that is aimed at.
const MAX_TARGET_FRAMES: i32 = 8;

/// Timestamps further than this from the next frame are all the same, 22 s of the fastest clock. It
/// is no multiple of any codec's frame, so that what cannot be cut does not lie on the time line.
const FAR_OFF_TICKS: i32 = (1 << 20) + 1;

/// Longest packet, 120 ms, the longest of Opus, RFC 7587 section 4.2.
const MAX_PACKET_FRAMES: i32 = 6;

/// Reads without audio after which the next packet begins a new talk spurt, 200 ms.
const PAUSE_READS: u32 = 10;

/// Frames in a row worth concealing: then a decoder has faded to silence.
const MAX_CONCEALED: u32 = 3;

/// What a read of 20 ms gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Audio of this many octets.
    Audio(usize),
    /// Audio that the packet read before holds already: one of Opus longer than 20 ms.
    Continued,
    /// Audio was sent, or should have been, and is not here: to be concealed.
    Lost,
    /// No audio is due: nothing has come yet, the sender pauses, or the loss lasts too long.
    Nothing,
}

/// A packet's place among those that came before it, by sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is the newest.
    Newest,
    /// A newer one has come before it.
    Overtaken,
}

/// What the buffer did, counted from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterFigures {
    /// Packets that came too late to be played, or that the buffer had no room for.
    pub discarded: u64,
    /// Reads that gave `Lost`.
    pub concealed: u64,
    /// Times the delay rose by 20 ms.
    pub raised: u64,
    /// Times the delay fell by 20 ms.
    pub lowered: u64,
}

/// The buffer of one port.
#[derive(Debug)]
pub struct JitterBuffer {
    codec: Codec,
    store: Store,
    /// Time of the next frame to read; None before the first packet.
    playout: Option<RtpTimestamp>,
    /// Time after the newest audio.
    end: RtpTimestamp,
    /// From here on there is silence on purpose, unless audio has come since.
    silent_from: Option<RtpTimestamp>,
    /// How far the time line can be set back without playing anything twice.
    unplayed_ticks: i32,
    /// Reads in a row that gave no audio.
    missing: u32,
    /// The time line waits for one read, so that overtaken packets come in time.
    waits: bool,
    margins: Margins,
    last_read: Now,
    figures: JitterFigures,
}

/// What holds the audio; positions are ticks from the next frame to read.
#[derive(Debug)]
enum Store {
    Octets(OctetRing),
    Packets(PacketRing),
}

/// What a store has of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Audio(usize),
    Continued,
    Missing,
}

impl JitterBuffer {
    /// An empty buffer for one codec.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let capacity = (CAPACITY_FRAMES * codec.frame_ticks().cast_signed()).cast_unsigned();
        let store = match codec {
            Codec::Pcma | Codec::Pcmu | Codec::G722 => Store::Octets(OctetRing::new(capacity, 1)),
            Codec::G729 => Store::Octets(OctetRing::new(capacity, 8)),
            Codec::Opus => Store::Packets(PacketRing::new(CAPACITY_FRAMES as usize)),
        };
        Self {
            codec,
            store,
            playout: None,
            end: RtpTimestamp(0),
            silent_from: None,
            unplayed_ticks: 0,
            missing: 0,
            waits: false,
            margins: Margins::new(codec.frame_ticks()),
            last_read: Now::ZERO,
            figures: JitterFigures::default(),
        }
    }

    /// Reads a little of all that a write and a read of 20 ms need.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        let store = match &self.store {
            Store::Octets(ring) => ring.fetch(),
            Store::Packets(_) => 0,
        };
        let Self { figures, waits, .. } = self;
        store + u64::from(self.end.0) + figures.discarded + u64::from(*waits) + self.margins.fetch()
    }

    /// What it holds.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> JitterFigures {
        self.figures
    }

    /// How long audio waits here, on average over the last second with audio.
    #[must_use]
    pub fn delay_ms(&self) -> u32 {
        self.margins.mean_ticks().max(0).unsigned_abs() * 20 / self.codec.frame_ticks()
    }

    /// Whether nothing suggests a longer delay: packets come in time.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.margins.are_settled()
    }

    /// Whether audio waits for the next read, or for one after it.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.level() > 0
    }

    /// Forgets all audio and how it came, as for a new sender.
    pub fn reset(&mut self) {
        self.playout = None;
        self.margins = Margins::new(self.codec.frame_ticks());
    }

    /// Takes in the payload of an audio packet that is no duplicate.
    pub fn write(&mut self, timestamp: RtpTimestamp, payload: &[u8], order: Order, now: Now) {
        let (payload, silence) = self.split_silence(timestamp, payload);
        if !payload.is_empty() {
            self.write_audio(timestamp, payload, order, now);
        }
        if let Some(from) = silence {
            self.silence(from);
        }
    }

    fn write_audio(&mut self, timestamp: RtpTimestamp, payload: &[u8], order: Order, now: Now) {
        let ticks = self.codec.payload_ticks(payload).map_or(0, u32::cast_signed);
        if !(1..=self.frames(MAX_PACKET_FRAMES)).contains(&ticks) {
            self.figures.discarded += 1;
            return;
        }
        let Some(playout) = self.playout else {
            return self.start(timestamp, ticks, payload, now);
        };
        // Whatever a packet says: so far off, the numbers below have room to be added to.
        let offset = timestamp.since(playout).clamp(-FAR_OFF_TICKS, FAR_OFF_TICKS);
        match order {
            Order::Newest => self.write_newest(timestamp, offset, ticks, payload, now),
            Order::Overtaken => self.write_overtaken(offset, ticks, payload, now),
        }
    }

    /// Takes off the silence descriptor that may end a payload of G.729, RFC 3551 section 4.5.6.
    fn split_silence<'a>(
        &self,
        timestamp: RtpTimestamp,
        payload: &'a [u8],
    ) -> (&'a [u8], Option<RtpTimestamp>) {
        let rest = payload.len() % octets::G729_FRAME_LEN;
        if self.codec != Codec::G729 || rest != octets::G729_SILENCE_LEN {
            return (payload, None);
        }
        let audio = &payload[..payload.len() - rest];
        let ticks = self.codec.payload_ticks(audio).unwrap_or(0);
        (audio, Some(timestamp.after(ticks)))
    }

    /// The sender says that no audio follows: comfort noise, or a telephone event in its place.
    pub fn silence(&mut self, timestamp: RtpTimestamp) {
        if timestamp.since(self.end) >= 0 {
            self.silent_from = Some(timestamp);
        }
    }

    /// Reads the next 20 ms.
    pub fn read(&mut self, out: &mut [u8; MAX_FRAME_LEN], now: Now) -> Read {
        self.last_read = now;
        let Some(playout) = self.playout else { return Read::Nothing };
        self.margins.tick();
        let level = self.end.since(playout);
        let mut load = self.store.load(out);
        // A frame that is missing while newer ones wait is the best one to leave out.
        let can_skip = !self.waits && level >= self.frames(2) && load != Load::Continued;
        if can_skip && self.margins.wants_less(load == Load::Missing) {
            self.margins.shift(-self.frames(1));
            self.figures.lowered += 1;
            self.advance(1);
            load = self.store.load(out);
        }
        if std::mem::take(&mut self.waits) {
            self.margins.shift(self.frames(1));
            self.figures.raised += 1;
            return self.missed();
        }
        self.advance(1);
        if load == Load::Missing {
            self.unplayed_ticks =
                (self.unplayed_ticks + self.frames(1)).min(self.frames(MAX_LEVEL_FRAMES));
            return self.missed();
        }
        self.unplayed_ticks = 0;
        self.missing = 0;
        match load {
            Load::Audio(len) => Read::Audio(len),
            _ => Read::Continued,
        }
    }

    fn write_newest(
        &mut self,
        timestamp: RtpTimestamp,
        offset: i32,
        ticks: i32,
        payload: &[u8],
        now: Now,
    ) {
        let back = self.round_up((-offset).max(0));
        // A talk spurt that comes in time on the line needs no other.
        let in_time = 0..=self.frames(self.target_frames() + 1);
        let begins_spurt =
            self.missing >= PAUSE_READS && self.level() <= 0 && !in_time.contains(&offset);
        let is_off_the_line = offset % self.store.unit_ticks() != 0
            || back > self.unplayed_ticks
            || (back > 0 && self.level() > 0)
            || offset > self.frames(CAPACITY_FRAMES);
        if begins_spurt || is_off_the_line {
            return self.start(timestamp, ticks, payload, now);
        }
        self.margins.note(self.margin(offset, now));
        let mut offset = offset;
        if back > 0 {
            self.set_back(back);
            offset += back;
        }
        if offset + ticks > self.frames(MAX_LEVEL_FRAMES) {
            // Here it would wait too long: what it should have waited decides what is left out.
            let surplus = self.round_up(offset - self.frames(self.target_frames()));
            self.margins.shift(-surplus);
            self.advance(surplus / self.frames(1));
            self.unplayed_ticks = 0;
            offset -= surplus;
        }
        self.keep(offset, ticks, payload);
    }

    fn write_overtaken(&mut self, offset: i32, ticks: i32, payload: &[u8], now: Now) {
        let is_on_the_line =
            offset % self.store.unit_ticks() == 0 && offset + ticks <= self.frames(CAPACITY_FRAMES);
        let margin = self.margin(offset, now);
        if offset + ticks <= 0 || !is_on_the_line {
            self.figures.discarded += 1;
            let can_wait = self.margins.mean_ticks() < self.frames(MAX_TARGET_FRAMES);
            self.waits |= is_on_the_line && can_wait && self.margins.note_late(margin);
            return;
        }
        self.margins.note(margin);
        self.keep(offset, ticks, payload);
    }

    /// Begins a time line so that the packet waits as long as packets spread.
    fn start(&mut self, timestamp: RtpTimestamp, ticks: i32, payload: &[u8], now: Now) {
        let wait = self.frames(self.target_frames());
        self.store.clear();
        self.playout = Some(timestamp.before(wait.cast_unsigned()));
        self.end = timestamp;
        self.silent_from = None;
        self.unplayed_ticks = 0;
        self.margins.restart();
        // Silence and not concealment goes before the first frame.
        self.missing = self.missing.max(MAX_CONCEALED);
        self.margins.note(self.margin(wait, now));
        self.keep(wait, ticks, payload);
    }

    /// Stores audio that begins `offset` ticks after the next frame, without what is past.
    fn keep(&mut self, offset: i32, ticks: i32, payload: &[u8]) {
        let Some(playout) = self.playout else { return };
        if !self.store.store(offset, payload) {
            self.figures.discarded += 1;
            return;
        }
        let end = playout.after((offset + ticks).max(0).cast_unsigned());
        if end.since(self.end) > 0 {
            self.end = end;
            self.silent_from = None;
        }
    }

    fn missed(&mut self) -> Read {
        self.missing += 1;
        let silent = self
            .silent_from
            .is_some_and(|from| self.playout.is_some_and(|playout| playout.since(from) > 0));
        if silent || self.missing > MAX_CONCEALED {
            return Read::Nothing;
        }
        self.figures.concealed += 1;
        Read::Lost
    }

    /// Moves the time line forward without reading.
    fn advance(&mut self, frames: i32) {
        let ticks = self.frames(frames);
        self.store.advance(ticks);
        self.playout = self.playout.map(|playout| playout.after(ticks.cast_unsigned()));
    }

    fn set_back(&mut self, ticks: i32) {
        self.store.set_back(ticks);
        self.playout = self.playout.map(|playout| playout.before(ticks.cast_unsigned()));
        self.unplayed_ticks -= ticks;
        self.margins.shift(ticks);
        self.figures.raised += u64::from((ticks / self.frames(1)).unsigned_abs());
    }

    fn level(&self) -> i32 {
        self.playout.map_or(0, |playout| self.end.since(playout))
    }

    /// How long before its turn audio at `offset` has come.
    fn margin(&self, offset: i32, now: Now) -> i32 {
        let waited_us = now.saturating_sub(self.last_read).as_micros().min(20_000) as i32;
        // The next read comes 20 ms after the last one.
        offset + (20_000 - waited_us) * self.frames(1) / 20_000
    }

    fn target_frames(&self) -> i32 {
        (self.round_up(self.margins.spread_ticks()) / self.frames(1)).clamp(1, MAX_TARGET_FRAMES)
    }

    fn frames(&self, count: i32) -> i32 {
        count * self.codec.frame_ticks().cast_signed()
    }

    fn round_up(&self, ticks: i32) -> i32 {
        let frame = self.frames(1);
        (ticks.saturating_add(frame - 1)).div_euclid(frame).saturating_mul(frame)
    }
}

impl Store {
    /// Where audio may begin, in ticks from any other.
    fn unit_ticks(&self) -> i32 {
        match self {
            Self::Octets(ring) => ring.unit_ticks(),
            Self::Packets(_) => packets::HALF_TICKS,
        }
    }

    /// Stores audio; false when it is all past or does not fit.
    fn store(&mut self, offset: i32, payload: &[u8]) -> bool {
        match self {
            Self::Octets(ring) => ring.store(offset, payload),
            Self::Packets(ring) => ring.store(offset, payload),
        }
    }

    fn load(&self, out: &mut [u8; MAX_FRAME_LEN]) -> Load {
        match self {
            Self::Octets(ring) => ring.load(out),
            Self::Packets(ring) => ring.load(out),
        }
    }

    fn advance(&mut self, ticks: i32) {
        match self {
            Self::Octets(ring) => ring.advance(ticks),
            Self::Packets(ring) => ring.advance(ticks),
        }
    }

    fn set_back(&mut self, ticks: i32) {
        match self {
            Self::Octets(ring) => ring.set_back(ticks),
            Self::Packets(ring) => ring.set_back(ticks),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Octets(ring) => ring.clear(),
            Self::Packets(ring) => ring.clear(),
        }
    }
}

#[cfg(test)]
mod tests;
