//! Loss and jitter of one incoming stream: RFC 3550 sections A.1, A.3 and A.8.

use crate::clock::Now;
use crate::rtp::{CLOCK_RATE_HZ, Packet, RtpTimestamp, SequenceNumber, Ssrc};

/// A forward jump of this many packets is a restart of the sender, not loss.
const MAX_DROPOUT: u16 = 3000;

/// A packet this far behind is late, further behind it is a restart.
const MAX_MISORDER: u16 = 100;

/// What a packet means for the stream it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// First packet of a sender: what was known of the former one no longer holds.
    NewSource,
    /// Belongs to the stream.
    InStream,
    /// Far out of sequence; believed only when the following packet continues it.
    Suspect,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: Ssrc,
    base: u32,
    highest: u16,
    cycles: u32,
    received: u64,
    suspect: Option<SequenceNumber>,
    last_transit: Option<u32>,
}

/// Counts packets of the present source and remembers the losses of former ones.
#[derive(Debug, Default)]
pub struct Reception {
    source: Option<Source>,
    received: u64,
    lost_before: i64,
    /// Sixteen times the jitter in RTP ticks, RFC 3550 section A.8.
    jitter_scaled: u32,
}

impl Reception {
    /// Counts a packet that belongs to the negotiated stream.
    pub fn count(&mut self, packet: &Packet<'_>) -> Arrival {
        let arrival = match &mut self.source {
            Some(source) if source.ssrc == packet.ssrc => source.update(packet.sequence),
            _ => Arrival::NewSource,
        };
        match arrival {
            Arrival::NewSource => {
                self.lost_before = self.lost();
                self.source = Some(Source::new(packet.ssrc, packet.sequence));
            }
            Arrival::InStream => {}
            Arrival::Suspect => return arrival,
        }
        self.received += 1;
        if let Some(source) = &mut self.source {
            source.received += 1;
        }
        arrival
    }

    /// Updates the jitter; only for audio, because event packets repeat their timestamp.
    pub fn measure(&mut self, timestamp: RtpTimestamp, now: Now) {
        let Some(source) = &mut self.source else { return };
        // 128 bits hold the product; the cut to 32 bits is the modulus of RTP time.
        let arrival = (now.as_micros() * u128::from(CLOCK_RATE_HZ) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp.0);
        if let Some(last) = source.last_transit.replace(transit) {
            let distance = transit.wrapping_sub(last).cast_signed().unsigned_abs();
            // A jump of a second is a new talk spurt with its own clock, not jitter.
            if distance < CLOCK_RATE_HZ {
                self.jitter_scaled =
                    self.jitter_scaled + distance - ((self.jitter_scaled + 8) >> 4);
            }
        }
    }

    /// Packets received over all sources.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets expected less packets received; negative when there were more duplicates.
    #[must_use]
    pub fn lost(&self) -> i64 {
        self.lost_before + self.source.as_ref().map_or(0, Source::lost)
    }

    /// Smoothed difference of transit times.
    #[must_use]
    pub fn jitter_ms(&self) -> f64 {
        f64::from(self.jitter_scaled) / 16.0 * 1000.0 / f64::from(CLOCK_RATE_HZ)
    }
}

impl Source {
    fn new(ssrc: Ssrc, first: SequenceNumber) -> Self {
        Self {
            ssrc,
            base: first.0.into(),
            highest: first.0,
            cycles: 0,
            received: 0,
            suspect: None,
            last_transit: None,
        }
    }

    fn update(&mut self, sequence: SequenceNumber) -> Arrival {
        let ahead = sequence.0.wrapping_sub(self.highest);
        if ahead < MAX_DROPOUT {
            if sequence.0 < self.highest {
                self.cycles += 1 << 16;
            }
            self.highest = sequence.0;
        } else if ahead <= u16::MAX - MAX_MISORDER {
            if self.suspect == Some(sequence) {
                return Arrival::NewSource;
            }
            self.suspect = Some(sequence.next());
            return Arrival::Suspect;
        }
        self.suspect = None;
        Arrival::InStream
    }

    fn lost(&self) -> i64 {
        let extended = i64::from(self.cycles) + i64::from(self.highest);
        let expected = extended - i64::from(self.base) + 1;
        expected - self.received.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rtp::Pt;

    fn packet(sequence: u16, ssrc: u32) -> Packet<'static> {
        Packet {
            marker: false,
            pt: Pt(8),
            sequence: SequenceNumber(sequence),
            timestamp: RtpTimestamp(0),
            ssrc: Ssrc(ssrc),
            payload: &[],
        }
    }

    #[test]
    fn loss_is_counted_across_the_wrap() {
        let mut reception = Reception::default();
        for step in 0..200u16 {
            if step % 10 != 5 {
                reception.count(&packet(65_500u16.wrapping_add(step), 1));
            }
        }
        assert_eq!((reception.received(), reception.lost()), (180, 20));
    }

    #[test]
    fn reordering_is_no_loss() {
        let mut reception = Reception::default();
        for sequence in [1, 3, 2, 5, 4, 6] {
            reception.count(&packet(sequence, 1));
        }
        assert_eq!((reception.received(), reception.lost()), (6, 0));
    }

    #[test]
    fn another_source_keeps_former_losses() {
        let mut reception = Reception::default();
        for sequence in [1, 2, 5] {
            reception.count(&packet(sequence, 1));
        }
        assert_eq!(reception.count(&packet(30_000, 2)), Arrival::NewSource);
        assert_eq!(reception.count(&packet(30_002, 2)), Arrival::InStream);
        assert_eq!((reception.received(), reception.lost()), (5, 3));
    }

    #[test]
    fn a_restart_is_believed_at_its_second_packet() {
        let mut reception = Reception::default();
        reception.count(&packet(1, 1));
        assert_eq!(reception.count(&packet(20_000, 1)), Arrival::Suspect);
        assert_eq!(reception.count(&packet(20_001, 1)), Arrival::NewSource);
        assert_eq!(reception.count(&packet(20_002, 1)), Arrival::InStream);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn a_steady_stream_has_no_jitter_and_an_unsteady_one_has() {
        let mut steady = Reception::default();
        let mut unsteady = Reception::default();
        for index in 0..500u32 {
            let sent = RtpTimestamp(index.wrapping_mul(160));
            let arrival = Duration::from_millis(20) * index;
            steady.count(&packet(index as u16, 1));
            steady.measure(sent, arrival);
            unsteady.count(&packet(index as u16, 1));
            unsteady.measure(sent, arrival + Duration::from_millis(u64::from(index % 2) * 10));
        }
        assert!(steady.jitter_ms() < 0.2);
        assert!((unsteady.jitter_ms() - 10.0).abs() < 1.0);
    }
}
