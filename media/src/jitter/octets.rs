//! A ring of octets that each stand for the same time: G.711, G.722 and G.729.

use crate::codec::MAX_FRAME_LEN;
use crate::sound::CACHE_LINE;

use super::Load;

/// Octets with a bit for each that says whether it is there.
#[derive(Debug)]
pub(super) struct OctetRing {
    octets: Box<[u8]>,
    present: Box<[u64]>,
    /// Index of the next octet to read.
    head: usize,
    ticks_per_octet: i32,
}

/// Octets of G.729 that cannot be parted, and those of a silence descriptor of its annex B.
pub(super) const G729_FRAME_LEN: usize = 10;
pub(super) const G729_SILENCE_LEN: usize = 2;

impl OctetRing {
    /// A ring of `capacity_ticks` of an 8 kHz clock.
    pub(super) fn new(capacity_ticks: u32, ticks_per_octet: i32) -> Self {
        let capacity = capacity_ticks as usize / ticks_per_octet.unsigned_abs() as usize;
        Self {
            octets: vec![0; capacity].into(),
            present: vec![0; capacity.div_ceil(64)].into(),
            head: 0,
            ticks_per_octet,
        }
    }

    /// Reads a little of the next two frames, one of which is to be read and one written.
    pub(super) fn fetch(&self) -> u64 {
        let octets = (0..2 * self.frame_len()).step_by(CACHE_LINE);
        let octets = octets.map(|at| u64::from(self.octets[self.index(at)]));
        octets.sum::<u64>() + (self.present[self.head / 64] & 1)
    }

    pub(super) fn unit_ticks(&self) -> i32 {
        if self.ticks_per_octet == 1 { 1 } else { self.ticks_per_octet * G729_FRAME_LEN as i32 }
    }

    /// Octets of 20 ms.
    fn frame_len(&self) -> usize {
        160 / self.ticks_per_octet.unsigned_abs() as usize
    }

    pub(super) fn store(&mut self, offset_ticks: i32, payload: &[u8]) -> bool {
        let offset = offset_ticks / self.ticks_per_octet;
        let past = (-offset).max(0).unsigned_abs() as usize;
        let offset = offset.max(0).unsigned_abs() as usize;
        let Some(payload) = payload.get(past..).filter(|rest| !rest.is_empty()) else {
            return past == 0;
        };
        if offset + payload.len() > self.octets.len() {
            return false;
        }
        let at = self.index(offset);
        let (first, rest) = payload.split_at(payload.len().min(self.octets.len() - at));
        self.octets[at..at + first.len()].copy_from_slice(first);
        self.octets[..rest.len()].copy_from_slice(rest);
        let present = &mut self.present;
        for_words(at, payload.len(), self.octets.len(), |word, mask| present[word] |= mask);
        true
    }

    /// Copies 20 ms out. When only one half is there, it is given in place of the other as well.
    pub(super) fn load(&self, out: &mut [u8; MAX_FRAME_LEN]) -> Load {
        let len = self.frame_len();
        let half = len / 2;
        let at = self.head;
        let first = len.min(self.octets.len() - at);
        out[..first].copy_from_slice(&self.octets[at..at + first]);
        out[first..len].copy_from_slice(&self.octets[..len - first]);
        match (self.has(0, half), self.has(half, half)) {
            (true, true) => {}
            (true, false) => out.copy_within(..half, half),
            (false, true) => out.copy_within(half..len, 0),
            (false, false) => return Load::Missing,
        }
        Load::Audio(len)
    }

    pub(super) fn advance(&mut self, ticks: i32) {
        let count = (ticks / self.ticks_per_octet).unsigned_abs() as usize;
        let present = &mut self.present;
        let length = count.min(self.octets.len());
        for_words(self.head, length, self.octets.len(), |word, mask| present[word] &= !mask);
        self.head = self.index(count);
    }

    /// What lies behind the head is not present: it was read, or never came.
    pub(super) fn set_back(&mut self, ticks: i32) {
        let count = (ticks / self.ticks_per_octet).unsigned_abs() as usize;
        let capacity = self.octets.len();
        self.head = (self.head + capacity - count % capacity) % capacity;
    }

    pub(super) fn clear(&mut self) {
        self.present.fill(0);
    }

    fn has(&self, offset: usize, length: usize) -> bool {
        let mut all = true;
        for_words(self.index(offset), length, self.octets.len(), |word, mask| {
            all &= self.present[word] & mask == mask;
        });
        all
    }

    fn index(&self, offset: usize) -> usize {
        (self.head + offset) % self.octets.len()
    }
}

/// Calls `apply` with the index and mask of each word that holds bits of the ring's range.
fn for_words(start: usize, length: usize, capacity: usize, mut apply: impl FnMut(usize, u64)) {
    let mut at = start;
    let mut remaining = length;
    while remaining > 0 {
        let bit = at % 64;
        let count = (64 - bit).min(remaining).min(capacity - at);
        apply(at / 64, (u64::MAX >> (64 - count)) << bit);
        at = (at + count) % capacity;
        remaining -= count;
    }
}
