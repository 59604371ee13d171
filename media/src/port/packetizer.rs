//! Packets of the time agreed, of 10 to 60 ms, from frames of 20 ms.

use crate::codec::{Codec, PCM_SAMPLES};
use crate::rtp::RtpTimestamp;

/// Most octets that wait for a packet to fill, 60 ms of G.711.
const MAX_WAITING_LEN: usize = 3 * PCM_SAMPLES;

/// When a packet is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// At the tick that fills it.
    AtOnce,
    /// 10 ms after.
    HalfARoundLater,
}

/// The packet that fills.
#[derive(Debug)]
pub struct Packetizer {
    payload: [u8; MAX_WAITING_LEN],
    len: usize,
    ticks: u32,
    since: RtpTimestamp,
}

impl Default for Packetizer {
    fn default() -> Self {
        Self { payload: [0; MAX_WAITING_LEN], len: 0, ticks: 0, since: RtpTimestamp(0) }
    }
}

impl Packetizer {
    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.len = 0;
        self.ticks = 0;
    }

    /// Takes a frame of 20 ms and gives the packets that are full with it, in the order in which
    /// they leave.
    ///
    /// In packet times that are no multiple of 20 ms every other packet is due in the middle between
    /// two frames. It is the one that ends with its frame: one that ends within it leaves at once.
    ///
    /// A packet of Opus is never divided nor joined, whatever it holds: its packet time is a wish
    /// (RFC 7587 section 7), and its frames are no row of octets.
    pub fn push(
        &mut self,
        codec: Codec,
        packet_time_ms: u8,
        timestamp: RtpTimestamp,
        frame: &[u8],
        mut emit: impl FnMut(RtpTimestamp, &[u8], Leaves),
    ) {
        if codec == Codec::Opus || (packet_time_ms == 20 && self.len == 0) {
            return emit(timestamp, frame, Leaves::AtOnce);
        }
        let at_the_end = match packet_time_ms % 20 {
            0 => Leaves::AtOnce,
            _ => Leaves::HalfARoundLater,
        };
        let half_ticks = codec.frame_ticks() / 2;
        let full_ticks = u32::from(packet_time_ms) * (codec.clock_rate_hz() / 1000);
        let (first, second) = frame.split_at(frame.len() / 2);
        let halves =
            [(first, timestamp, Leaves::AtOnce), (second, timestamp.after(half_ticks), at_the_end)];
        for (half, timestamp, leaves) in halves {
            let follows = self.since.after(self.ticks) == timestamp;
            let fits = self.len + half.len() <= MAX_WAITING_LEN;
            if self.len > 0 && !(follows && fits) {
                emit(self.since, &self.payload[..self.len], Leaves::AtOnce);
                self.clear();
            }
            if self.len == 0 {
                self.since = timestamp;
            }
            self.payload[self.len..self.len + half.len()].copy_from_slice(half);
            self.len += half.len();
            self.ticks += half_ticks;
            if self.ticks >= full_ticks {
                emit(self.since, &self.payload[..self.len], leaves);
                self.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(codec: Codec, packet_time_ms: u8, frames: &[u32]) -> Vec<(u32, Vec<u8>)> {
        let len = if codec == Codec::G729 { 20 } else { 160 };
        let mut packetizer = Packetizer::default();
        let mut packets = Vec::new();
        for index in frames {
            let frame: Vec<u8> = (0..len).map(|at| (index * len + at) as u8).collect();
            let timestamp = RtpTimestamp(index * codec.frame_ticks());
            packetizer.push(codec, packet_time_ms, timestamp, &frame, |timestamp, payload, _| {
                packets.push((timestamp.0, payload.to_vec()));
            });
        }
        packets
    }

    #[test]
    fn packets_of_every_time_hold_the_same_audio() {
        for (codec, octets_per_10_ms) in [(Codec::Pcma, 80), (Codec::G722, 80), (Codec::G729, 10)] {
            let frames: Vec<u32> = (0..30).collect();
            let whole = packets(codec, 20, &frames);
            let whole: Vec<u8> = whole.into_iter().flat_map(|(_, payload)| payload).collect();
            for time_ms in [10, 20, 30, 40, 50, 60] {
                let sent = packets(codec, time_ms, &frames);
                let len = usize::from(time_ms) / 10 * octets_per_10_ms;
                for (index, (timestamp, payload)) in sent.iter().enumerate() {
                    assert_eq!(payload.len(), len, "{codec:?} in packets of {time_ms} ms");
                    assert_eq!(*timestamp as usize, index * usize::from(time_ms) * 8);
                }
                let joined: Vec<u8> = sent.into_iter().flat_map(|(_, payload)| payload).collect();
                assert_eq!((joined.len(), &joined[..]), (whole.len(), &whole[..]));
            }
        }
    }

    #[test]
    fn packets_of_every_time_leave_at_even_intervals() {
        for time_ms in [10, 20, 30, 40, 50, 60] {
            let mut packetizer = Packetizer::default();
            let mut left_ms = Vec::new();
            for index in 0..60u32 {
                let timestamp = RtpTimestamp(index * Codec::Pcma.frame_ticks());
                packetizer.push(Codec::Pcma, time_ms, timestamp, &[0; 160], |_, _, leaves| {
                    left_ms.push(index * 20 + if leaves == Leaves::AtOnce { 0 } else { 10 });
                });
            }
            assert!(left_ms.len() >= 20);
            let gaps: Vec<_> = left_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().all(|gap| *gap == u32::from(time_ms)), "{time_ms} ms: {gaps:?}");
        }
    }

    #[test]
    fn packets_of_opus_stay_as_they_are() {
        for time_ms in [10, 20, 60] {
            assert_eq!(packets(Codec::Opus, time_ms, &[0, 1, 2]).len(), 3);
        }
    }

    #[test]
    fn a_gap_ends_a_packet() {
        let sent = packets(Codec::Pcma, 60, &[0, 2, 3, 4]);
        let shape: Vec<_> = sent.iter().map(|(at, payload)| (*at, payload.len())).collect();
        assert_eq!(shape, [(0, 160), (320, 480)]);
    }
}
