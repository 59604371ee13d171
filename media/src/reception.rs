//! Loss and jitter of one incoming stream: RFC 3550 sections 6.4.1, A.1, A.3 and A.8.

use crate::clock::Now;
use crate::rtp::{CLOCK_RATE_HZ, Packet, RtpTimestamp, SequenceNumber, Ssrc};

/// A forward jump of this many packets is a restart of the sender, not loss.
const MAX_DROPOUT: u16 = 3000;

/// A packet this far behind is late, further behind it is a restart.
const MAX_MISORDER: u16 = 100;

/// What a packet means for the stream it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Another sender: what was known of the former one no longer holds.
    NewSource,
    /// The same sender with another time line.
    Restart,
    /// Belongs to the stream, ahead of all others.
    Newest,
    /// Belongs to the stream, and a later one came first.
    Overtaken,
    /// Came before.
    Duplicate,
    /// Far out of sequence, or of another source: believed only when the next one continues it.
    Suspect,
}

/// Counts of a stream up to a moment; two of them tell of the time between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By their sequence numbers, so many packets were sent.
    pub expected: i64,
    /// So many came, without duplicates.
    pub received: i64,
    /// So many times packets were missing in the sequence.
    pub gaps: u64,
}

impl Counts {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            expected: self.expected - earlier.expected,
            received: self.received - earlier.received,
            gaps: self.gaps - earlier.gaps,
        }
    }

    /// Expected and not received; late packets of the time before may outweigh losses.
    #[must_use]
    pub fn lost(self) -> i64 {
        (self.expected - self.received).max(0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: Ssrc,
    base: u32,
    highest: u16,
    cycles: u32,
    /// Bit n: the packet n before the highest has come.
    seen: u64,
    last_transit: Option<u32>,
}

/// A packet that the stream does not explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspicion {
    ssrc: Ssrc,
    next: SequenceNumber,
}

/// Counts packets of the present source and remembers those of former ones.
#[derive(Debug)]
pub struct Reception {
    source: Option<Source>,
    suspicion: Option<Suspicion>,
    clock_rate_hz: u32,
    received: u64,
    duplicates: u64,
    gaps: u64,
    /// Packets expected of former sources.
    expected_before: i64,
    /// Sixteen times the jitter in RTP ticks, RFC 3550 section A.8.
    jitter_scaled: u32,
}

impl Default for Reception {
    fn default() -> Self {
        Self {
            source: None,
            suspicion: None,
            clock_rate_hz: CLOCK_RATE_HZ,
            received: 0,
            duplicates: 0,
            gaps: 0,
            expected_before: 0,
            jitter_scaled: 0,
        }
    }
}

impl Reception {
    /// Sets the rate of the RTP clock; jitter begins anew when it is another one.
    pub fn set_clock_rate(&mut self, clock_rate_hz: u32) {
        if self.clock_rate_hz != clock_rate_hz {
            self.clock_rate_hz = clock_rate_hz;
            self.jitter_scaled = 0;
            if let Some(source) = &mut self.source {
                source.last_transit = None;
            }
        }
    }

    /// Counts a packet that belongs to the negotiated stream.
    pub fn count(&mut self, packet: &Packet<'_>) -> Arrival {
        let Some(source) = &mut self.source else {
            self.begin(packet);
            return Arrival::NewSource;
        };
        let is_known = source.ssrc == packet.ssrc;
        let placed = if is_known { source.place(packet.sequence) } else { None };
        let Some((arrival, missing)) = placed else {
            // RFC 3550 section A.1: two in sequence are believed, a stray one is not.
            let this = Suspicion { ssrc: packet.ssrc, next: packet.sequence };
            if self.suspicion != Some(this) {
                let next = packet.sequence.next();
                self.suspicion = Some(Suspicion { next, ..this });
                return Arrival::Suspect;
            }
            self.begin(packet);
            return if is_known { Arrival::Restart } else { Arrival::NewSource };
        };
        self.suspicion = None;
        if arrival == Arrival::Duplicate {
            self.duplicates += 1;
        } else {
            self.received += 1;
            self.gaps += u64::from(missing);
        }
        arrival
    }

    /// Updates the jitter; only for audio, because event packets repeat their timestamp. Without
    /// the time of arrival there is nothing to compare the next packet with.
    pub fn measure(&mut self, timestamp: RtpTimestamp, arrived: Option<Now>) {
        let Some(source) = &mut self.source else { return };
        let Some(now) = arrived else {
            source.last_transit = None;
            return;
        };
        // 128 bits hold the product; the cut to 32 bits is the modulus of RTP time.
        let arrival = (now.as_micros() * u128::from(self.clock_rate_hz) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp.0);
        if let Some(last) = source.last_transit.replace(transit) {
            let distance = transit.wrapping_sub(last).cast_signed().unsigned_abs();
            // A jump of a second is a new talk spurt with its own clock, not jitter.
            if distance < self.clock_rate_hz {
                self.jitter_scaled =
                    self.jitter_scaled + distance - ((self.jitter_scaled + 8) >> 4);
            }
        }
    }

    /// Packets received over all sources, without duplicates.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets that had come before.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets expected less packets received.
    #[must_use]
    pub fn lost(&self) -> i64 {
        let counts = self.counts();
        counts.expected - counts.received
    }

    /// All that was counted up to now, over all sources.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let expected = self.source.as_ref().map_or(0, Source::expected);
        Counts {
            expected: self.expected_before + expected,
            received: self.received.cast_signed(),
            gaps: self.gaps,
        }
    }

    /// The present source.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        self.source.map(|source| source.ssrc)
    }

    /// The highest sequence number with the count of its wraps, RFC 3550 section 6.4.1.
    #[must_use]
    pub fn extended_highest(&self) -> u32 {
        self.source.map_or(0, |source| source.cycles.wrapping_add(source.highest.into()))
    }

    /// Smoothed difference of transit times in RTP ticks.
    #[must_use]
    pub fn jitter_ticks(&self) -> u32 {
        self.jitter_scaled >> 4
    }

    /// Smoothed difference of transit times.
    #[must_use]
    pub fn jitter_ms(&self) -> f64 {
        f64::from(self.jitter_scaled) / 16.0 * 1000.0 / f64::from(self.clock_rate_hz)
    }

    fn begin(&mut self, packet: &Packet<'_>) {
        self.expected_before = self.counts().expected;
        self.source = Some(Source {
            ssrc: packet.ssrc,
            base: packet.sequence.0.into(),
            highest: packet.sequence.0,
            cycles: 0,
            seen: 1,
            last_transit: None,
        });
        self.suspicion = None;
        self.received += 1;
    }
}

impl Source {
    /// Places a packet in the sequence; the flag says that packets are missing before it. None
    /// when it is too far from what is known.
    fn place(&mut self, sequence: SequenceNumber) -> Option<(Arrival, bool)> {
        let ahead = sequence.0.wrapping_sub(self.highest);
        let behind = self.highest.wrapping_sub(sequence.0);
        if ahead == 0 {
            return Some((Arrival::Duplicate, false));
        }
        if ahead < MAX_DROPOUT {
            if sequence.0 < self.highest {
                self.cycles = self.cycles.wrapping_add(1 << 16);
            }
            self.highest = sequence.0;
            self.seen = self.seen.checked_shl(ahead.into()).unwrap_or(0) | 1;
            return Some((Arrival::Newest, ahead > 1));
        }
        if behind > MAX_MISORDER {
            return None;
        }
        let bit = 1u64.checked_shl(behind.into()).unwrap_or(0);
        if self.seen & bit != 0 {
            return Some((Arrival::Duplicate, false));
        }
        self.seen |= bit;
        Some((Arrival::Overtaken, false))
    }

    fn expected(&self) -> i64 {
        let extended = i64::from(self.cycles) + i64::from(self.highest);
        extended - i64::from(self.base) + 1
    }
}

#[cfg(test)]
mod tests;
