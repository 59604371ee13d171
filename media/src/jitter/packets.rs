//! A ring of whole packets: Opus, whose payloads cannot be cut by time.

use crate::codec::{Codec, MAX_FRAME_LEN};

use super::Load;

/// 10 and 20 ms of the 48 kHz clock.
pub(super) const HALF_TICKS: i32 = 480;
const FRAME_TICKS: i32 = 960;

/// Where the second of two packets of 10 ms is kept, and so the most octets of the first.
const SECOND_HALF: usize = MAX_FRAME_LEN / 2;

/// What one place of 20 ms holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Empty,
    /// A packet of 20 ms or more.
    Packet(usize),
    /// Packets of 10 ms, of the lengths given.
    Halves([Option<usize>; 2]),
    /// A packet in an earlier place lasts to here.
    Continued,
}

#[derive(Debug)]
struct Slot {
    content: Content,
    octets: [u8; MAX_FRAME_LEN],
}

/// Places of 20 ms, the next one to read at `head`.
#[derive(Debug)]
pub(super) struct PacketRing {
    slots: Box<[Slot]>,
    head: usize,
}

impl PacketRing {
    pub(super) fn new(capacity: usize) -> Self {
        let empty = || Slot { content: Content::Empty, octets: [0; MAX_FRAME_LEN] };
        Self { slots: std::iter::repeat_with(empty).take(capacity).collect(), head: 0 }
    }

    /// Stores packets of 10 ms and of whole 20 ms; those of 2.5, 5 and 30 ms are no use here, and
    /// nobody sends them who was asked for 20 ms.
    pub(super) fn store(&mut self, offset: i32, payload: &[u8]) -> bool {
        let Some(ticks) = Codec::Opus.payload_ticks(payload).map(u32::cast_signed) else {
            return false;
        };
        if offset < 0 || payload.len() > MAX_FRAME_LEN {
            return false;
        }
        let at = (offset / FRAME_TICKS).unsigned_abs() as usize;
        if ticks == HALF_TICKS {
            return self.store_half(at, offset % FRAME_TICKS != 0, payload);
        }
        let count = (ticks / FRAME_TICKS).unsigned_abs() as usize;
        if ticks % FRAME_TICKS != 0
            || offset % FRAME_TICKS != 0
            || at + count > self.slots.len()
            || (0..count).any(|index| self.slot(at + index).content != Content::Empty)
        {
            return false;
        }
        for index in 1..count {
            self.slot_mut(at + index).content = Content::Continued;
        }
        let slot = self.slot_mut(at);
        slot.content = Content::Packet(payload.len());
        slot.octets[..payload.len()].copy_from_slice(payload);
        true
    }

    fn store_half(&mut self, at: usize, is_second: bool, payload: &[u8]) -> bool {
        if at >= self.slots.len() || payload.len() > SECOND_HALF || payload[0] & 3 != 0 {
            return false;
        }
        let slot = self.slot_mut(at);
        let mut halves = match slot.content {
            Content::Empty => [None, None],
            Content::Halves(halves) => halves,
            Content::Packet(_) | Content::Continued => return false,
        };
        halves[usize::from(is_second)] = Some(payload.len());
        slot.content = Content::Halves(halves);
        let start = usize::from(is_second) * SECOND_HALF;
        slot.octets[start..start + payload.len()].copy_from_slice(payload);
        true
    }

    pub(super) fn load(&self, out: &mut [u8; MAX_FRAME_LEN]) -> Load {
        let slot = self.slot(0);
        match slot.content {
            Content::Empty => Load::Missing,
            Content::Continued => Load::Continued,
            Content::Packet(len) => {
                out[..len].copy_from_slice(&slot.octets[..len]);
                Load::Audio(len)
            }
            Content::Halves([first, second]) => {
                let first = first.map(|len| &slot.octets[..len]);
                let second = second.map(|len| &slot.octets[SECOND_HALF..SECOND_HALF + len]);
                // A half that is missing is replaced by the other one.
                let Some((first, second)) = first.or(second).zip(second.or(first)) else {
                    return Load::Missing;
                };
                join(first, second, out)
            }
        }
    }

    pub(super) fn advance(&mut self, ticks: i32) {
        for _ in 0..(ticks / FRAME_TICKS).min(self.slots.len() as i32) {
            self.slot_mut(0).content = Content::Empty;
            self.head = (self.head + 1) % self.slots.len();
        }
    }

    pub(super) fn set_back(&mut self, ticks: i32) {
        let count = (ticks / FRAME_TICKS).unsigned_abs() as usize % self.slots.len();
        self.head = (self.head + self.slots.len() - count) % self.slots.len();
        for index in 0..count {
            self.slot_mut(index).content = Content::Empty;
        }
    }

    pub(super) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.content = Content::Empty;
        }
    }

    fn slot(&self, at: usize) -> &Slot {
        &self.slots[(self.head + at) % self.slots.len()]
    }

    fn slot_mut(&mut self, at: usize) -> &mut Slot {
        let index = (self.head + at) % self.slots.len();
        &mut self.slots[index]
    }
}

/// Makes one packet of 20 ms of two of 10 ms: two frames of different length, RFC 6716 section
/// 3.2.4. Frames of different modes cannot be joined: the first is kept.
fn join(first: &[u8], second: &[u8], out: &mut [u8; MAX_FRAME_LEN]) -> Load {
    let (Some((toc, first_frame)), Some((second_toc, second_frame))) =
        (first.split_first(), second.split_first())
    else {
        return Load::Missing;
    };
    if toc != second_toc {
        return join(first, first, out);
    }
    let (start, len) = (2, first_frame.len());
    out[0] = toc | 2;
    out[1] = len as u8; // below 252, from where on a length takes two octets
    let middle = start + len;
    let end = middle + second_frame.len();
    out[start..middle].copy_from_slice(first_frame);
    out[middle..end].copy_from_slice(second_frame);
    Load::Audio(end)
}
