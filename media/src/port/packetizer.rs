//! Packets of the time agreed, of 10 to 60 ms, from frames of 20 ms.

use opus_pure::Repacketizer;

use crate::codec::{Codec, PCM_SAMPLES, is_silence};
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
    /// Frames of Opus that wait in place of `payload`.
    opus: Option<Box<Repacketizer>>,
    ticks: u32,
    since: RtpTimestamp,
}

impl Default for Packetizer {
    fn default() -> Self {
        Self { payload: [0; MAX_WAITING_LEN], len: 0, opus: None, ticks: 0, since: RtpTimestamp(0) }
    }
}

impl Packetizer {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.len = 0;
        self.opus = None;
        self.ticks = 0;
    }

    /// Takes a frame of 20 ms and gives the packets that are full with it, in the order in which
    /// they leave.
    ///
    /// In packet times that are no multiple of 20 ms every other packet is due in the middle between
    /// two frames. It is the one that ends with its frame: one that ends within it leaves at once.
    pub fn push(
        &mut self,
        codec: Codec,
        packet_time_ms: u8,
        timestamp: RtpTimestamp,
        frame: &[u8],
        mut emit: impl FnMut(RtpTimestamp, &[u8], Leaves),
    ) {
        if packet_time_ms == 20 && self.ticks == 0 {
            return emit(timestamp, frame, Leaves::AtOnce);
        }
        let full_ticks = u32::from(packet_time_ms) * (codec.clock_rate_hz() / 1000);
        if codec == Codec::Opus {
            self.push_opus(full_ticks, timestamp, frame, emit);
        } else {
            self.push_octets(codec, full_ticks, timestamp, frame, &mut emit);
        }
    }

    /// Frames that are rows of octets.
    fn push_octets(
        &mut self,
        codec: Codec,
        full_ticks: u32,
        timestamp: RtpTimestamp,
        frame: &[u8],
        emit: &mut impl FnMut(RtpTimestamp, &[u8], Leaves),
    ) {
        let half_ticks = codec.frame_ticks() / 2;
        let at_the_end = match full_ticks % codec.frame_ticks() {
            0 => Leaves::AtOnce,
            _ => Leaves::HalfARoundLater,
        };
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

    /// Packets of Opus, whose frames are joined and told apart by RFC 6716 section 3.2. One of
    /// another leg may hold frames that are longer than asked for, or more of them: it goes on as it
    /// is, since the packet time is a wish (RFC 7587 section 7).
    fn push_opus(
        &mut self,
        full_ticks: u32,
        timestamp: RtpTimestamp,
        packet: &[u8],
        mut emit: impl FnMut(RtpTimestamp, &[u8], Leaves),
    ) {
        let frame_ticks = Codec::Opus.frame_ticks();
        let can_wait = Codec::Opus.payload_ticks(packet) == Some(frame_ticks)
            && !is_silence(Codec::Opus, packet);
        let mut frames = self.opus.take().unwrap_or_default();
        let follows = can_wait && self.since.after(self.ticks) == timestamp;
        if self.ticks > 0 && !(follows && frames.cat(packet).is_ok()) {
            if let Ok(waiting) = frames.out() {
                emit(self.since, &waiting, Leaves::AtOnce);
            }
            frames.clear();
            self.ticks = 0;
        }
        if self.ticks == 0 {
            if !can_wait || frames.cat(packet).is_err() {
                return emit(timestamp, packet, Leaves::AtOnce);
            }
            self.since = timestamp;
        }
        self.ticks += frame_ticks;
        self.opus = Some(self.emit_full(frames, full_ticks, &mut emit));
    }

    /// Gives the packets that are full, and returns the frames that are not in one yet.
    fn emit_full(
        &mut self,
        mut frames: Box<Repacketizer>,
        full_ticks: u32,
        emit: &mut impl FnMut(RtpTimestamp, &[u8], Leaves),
    ) -> Box<Repacketizer> {
        let count = frames.nb_frames();
        let each_ticks = self.ticks / count as u32;
        let in_a_packet = (full_ticks / each_ticks).max(1) as usize;
        let is_odd = !(in_a_packet as u32 * each_ticks).is_multiple_of(Codec::Opus.frame_ticks());
        let mut sent = 0;
        while count - sent >= in_a_packet {
            let ends = sent + in_a_packet;
            let leaves = match is_odd && ends == count {
                true => Leaves::HalfARoundLater,
                false => Leaves::AtOnce,
            };
            if let Ok(packet) = frames.out_range(sent, ends) {
                emit(self.since, &packet, leaves);
            }
            self.since = self.since.after(in_a_packet as u32 * each_ticks);
            self.ticks -= in_a_packet as u32 * each_ticks;
            sent = ends;
        }
        if sent > 0 {
            let rest = frames.out_range(sent, count);
            frames.clear();
            if let Ok(rest) = rest {
                // They were held together a moment ago.
                let _ = frames.cat(&rest);
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoder;
    use crate::test_tone::{encoded_tone, opus_frames, tone_by};

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

    /// What was given for packets of Opus: when it left in ms, its time, its octets.
    fn opus_packets(packet_time_ms: u8, line: &[Vec<u8>]) -> Vec<(u32, u32, Vec<u8>)> {
        let mut packetizer = Packetizer::default();
        let mut given = Vec::new();
        for (packet, index) in line.iter().zip(0..).filter(|(packet, _)| !packet.is_empty()) {
            let timestamp = RtpTimestamp(index * Codec::Opus.frame_ticks());
            let emit = |timestamp: RtpTimestamp, payload: &[u8], leaves| {
                let late_ms = if leaves == Leaves::AtOnce { 0 } else { 10 };
                given.push((index * 20 + late_ms, timestamp.0, payload.to_vec()));
            };
            packetizer.push(Codec::Opus, packet_time_ms, timestamp, packet, emit);
        }
        given
    }

    #[test]
    fn packets_of_opus_hold_the_same_frames_in_every_time() {
        for time_ms in [10, 20, 30, 40, 50, 60] {
            let line = tone_by(Encoder::for_packets(Codec::Opus, time_ms), 60);
            let given = opus_packets(time_ms, &line);
            let ticks = u32::from(time_ms) * 48;
            for (index, (_, timestamp, payload)) in given.iter().enumerate() {
                assert_eq!(Codec::Opus.payload_ticks(payload), Some(ticks), "{time_ms} ms");
                assert_eq!(*timestamp, index as u32 * ticks, "{time_ms} ms");
            }
            let gaps: Vec<_> = given.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
            assert!(gaps.iter().all(|gap| *gap == u32::from(time_ms)), "{time_ms} ms: {gaps:?}");
            let sent: Vec<_> =
                given.iter().flat_map(|(.., payload)| opus_frames(payload)).collect();
            let asked: Vec<_> = line.iter().flat_map(|packet| opus_frames(packet)).collect();
            assert_eq!((sent.len(), &sent), (asked.len(), &asked), "{time_ms} ms");
        }
    }

    #[test]
    fn longer_packets_of_opus_pass_as_they_are_after_what_waits() {
        let short = encoded_tone(Codec::Opus, 7);
        let mut long = Repacketizer::new();
        short[2..5].iter().for_each(|packet| long.cat(packet).unwrap());
        let long = long.out().unwrap();
        let none = Vec::new();
        let line = [&short[0], &short[1], &long, &none, &none, &short[5], &short[6]];
        let given = opus_packets(60, &line.map(Clone::clone));
        let times: Vec<_> =
            given.iter().map(|(at_ms, timestamp, _)| (*at_ms, *timestamp)).collect();
        // Two that waited for a third, and the long one: all at once. The last two still wait.
        assert_eq!(times, [(40, 0), (40, 2 * 960)]);
        assert_eq!(given[1].2, long);
    }

    #[test]
    fn a_packet_of_opus_that_says_it_is_silent_waits_for_none() {
        let speech = encoded_tone(Codec::Opus, 1).remove(0);
        let silence = vec![speech[0]];
        let given = opus_packets(40, &[speech.clone(), silence.clone()]);
        assert_eq!(given, [(20, 0, speech), (20, 960, silence)]);
    }

    #[test]
    fn a_gap_ends_a_packet() {
        let sent = packets(Codec::Pcma, 60, &[0, 2, 3, 4]);
        let shape: Vec<_> = sent.iter().map(|(at, payload)| (*at, payload.len())).collect();
        assert_eq!(shape, [(0, 160), (320, 480)]);
    }
}
