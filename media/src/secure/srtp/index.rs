//! Packet indices, RFC 3711 section 3.3: rollover counters and the memory of what was received.

/// Streams of one direction that are kept apart. A far end that changes its SSRC more often
/// evicts the one it used longest ago.
const MAX_STREAMS: usize = 4;

/// Indices remembered below the highest one; section 3.3.2 asks for 64 at least.
const WINDOW_LEN: u64 = u128::BITS as u64;

/// Which indices were received.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// One above the highest index, so that zero is "none yet".
    next: u64,
    /// Bit `n` is the index `n` below the highest.
    seen: u128,
}

impl Window {
    /// Whether the index came before, or is too old to be told.
    fn has_seen(&self, index: u64) -> bool {
        match self.next.checked_sub(1 + index) {
            None => false,
            Some(age) => age >= WINDOW_LEN || self.seen >> age & 1 == 1,
        }
    }

    /// Remembers an index.
    fn mark(&mut self, index: u64) {
        if let Some(age) = self.next.checked_sub(1 + index) {
            self.seen |= 1u128.checked_shl(age.min(WINDOW_LEN) as u32).unwrap_or_default();
        } else {
            let step = index + 1 - self.next;
            self.seen = self.seen.checked_shl(step.min(WINDOW_LEN) as u32).unwrap_or_default() | 1;
            self.next = index + 1;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    window: Window,
    last_use: u64,
}

impl Stream {
    /// The index that a sequence number most likely means: the nearest to the highest one so
    /// far, appendix A. `None` when the counter would wrap: the key's life is over.
    fn index(&self, sequence: u16) -> Option<u64> {
        let Some(highest) = self.window.next.checked_sub(1) else {
            return Some(sequence.into());
        };
        let step = sequence.wrapping_sub(highest as u16).cast_signed();
        // Nothing lies before the start of a stream: its counter begins at zero.
        let index = highest.checked_add_signed(step.into()).unwrap_or(sequence.into());
        (index >> 48 == 0).then_some(index)
    }
}

/// A packet that was received but is not yet known to be authentic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    ssrc: u32,
    index: u64,
    /// It came before, is too old to be told, or lies beyond the key's life.
    pub(super) replayed: bool,
}

impl Candidate {
    /// The rollover counter to authenticate with.
    pub(super) fn rollover(&self) -> u32 {
        (self.index >> 16) as u32
    }
}

/// The streams of one direction.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: [Option<Stream>; MAX_STREAMS],
    uses: u64,
}

impl Streams {
    /// Counts a packet sent and returns its rollover counter; `None` after 2^48 packets.
    pub(super) fn sent(&mut self, ssrc: u32, sequence: u16) -> Option<u32> {
        let stream = self.stream(ssrc);
        let index = stream.index(sequence)?;
        stream.window.mark(index);
        Some((index >> 16) as u32)
    }

    /// Looks at an RTP packet received; nothing is remembered of it until it is accepted.
    pub(super) fn received(&self, ssrc: u32, sequence: u16) -> Candidate {
        let index = match self.find(ssrc) {
            Some(stream) => stream.index(sequence),
            None => Some(sequence.into()),
        };
        self.candidate(ssrc, index)
    }

    /// Looks at an RTCP packet received, which says its index itself.
    pub(super) fn received_at(&self, ssrc: u32, index: u64) -> Candidate {
        self.candidate(ssrc, Some(index))
    }

    fn candidate(&self, ssrc: u32, index: Option<u64>) -> Candidate {
        let replayed = index.is_none_or(|index| {
            self.find(ssrc).is_some_and(|stream| stream.window.has_seen(index))
        });
        Candidate { ssrc, index: index.unwrap_or_default(), replayed }
    }

    fn find(&self, ssrc: u32) -> Option<&Stream> {
        self.streams.iter().flatten().find(|stream| stream.ssrc == ssrc)
    }

    /// Remembers an authentic packet.
    pub(super) fn accept(&mut self, candidate: &Candidate) {
        self.stream(candidate.ssrc).window.mark(candidate.index);
    }

    fn stream(&mut self, ssrc: u32) -> &mut Stream {
        self.uses += 1;
        let known = self.streams.iter().position(|slot| slot.is_some_and(|own| own.ssrc == ssrc));
        let oldest = || {
            let ages = self.streams.iter().map(|slot| slot.map_or(0, |stream| stream.last_use));
            ages.enumerate().min_by_key(|(_, last_use)| *last_use).map_or(0, |(slot, _)| slot)
        };
        let slot = known.unwrap_or_else(oldest);
        if known.is_none() {
            self.streams[slot] = None;
        }
        let fresh = Stream { ssrc, window: Window::default(), last_use: 0 };
        let stream = self.streams[slot].get_or_insert(fresh);
        stream.last_use = self.uses;
        stream
    }
}
