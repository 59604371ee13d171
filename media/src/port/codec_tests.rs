//! Two legs of a call, each with a far end of its own, in every pair of codecs and packet times.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::codec::{Decoder, PCM_SAMPLES, level};
use crate::matrix::Hearing;
use crate::mixer::{self, Sources};
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use crate::test_tone::{TONE_DBOV, encoded_tone, opus_frames, tone_and_rest};

const PACKET_TIMES_MS: [u8; 6] = [10, 20, 30, 40, 50, 60];

fn connection(codec: Codec, packet_time_ms: u8) -> Connection {
    Connection {
        codec,
        payload_type: codec.static_pt().unwrap_or(Pt(111)),
        packet_time_ms,
        ..super::tests::connection()
    }
}

struct Legs([Port; 2]);

impl Sources for Legs {
    fn encoded(&self, source: usize, round: u64) -> Option<&Encoded> {
        self.0[source].encoded(round)
    }

    fn pcm(&mut self, source: usize, round: u64) -> Option<&Pcm> {
        self.0[source].pcm(round)
    }
}

/// What a far end sends: the time in ms, the payload type and the payload.
type Line = VecDeque<(u64, Pt, Vec<u8>)>;

/// A packet that the second far end received.
#[derive(Clone, Debug, PartialEq)]
struct Received {
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
}

/// A bridge of two legs in virtual time; the second hears the first.
struct Bridge {
    legs: Legs,
    round: u64,
    events: Vec<Event>,
    received: Vec<Received>,
}

impl Bridge {
    fn new(first: Connection, second: Connection) -> Self {
        let start = super::tests::START;
        let legs = Legs([1, 2].map(|id| Port::new(PortId(id), start, super::tests::REPORTS)));
        let mut bridge = Self { legs, round: 0, events: Vec::new(), received: Vec::new() };
        bridge.legs.0[0].connect(first, Duration::ZERO);
        bridge.legs.0[1].connect(second, Duration::ZERO);
        bridge.legs.0[0].set_listeners(1);
        bridge
    }

    /// Sends `line` from the first far end; packets without a payload are lost.
    fn run(&mut self, line: Line, rounds: u64) {
        let end = self.round + rounds;
        let first_ms = self.round * 20;
        let clock_rate_hz = self.legs.0[0].codec().clock_rate_hz();
        let mut sent = line.into_iter().zip(self.round as u16 * 2..).peekable();
        while self.round < end {
            let now = Duration::from_millis(20 * self.round);
            while let Some(((at_ms, pt, payload), sequence)) =
                sent.next_if(|((at_ms, ..), _)| first_ms + at_ms <= self.round * 20)
            {
                let ticks = (first_ms + at_ms) * u64::from(clock_rate_hz) / 1000;
                self.send(sequence, ticks as u32, pt, &payload, now);
            }
            for leg in &mut self.legs.0 {
                leg.tick_receive(self.round, now, &mut self.events);
            }
            self.hear();
            self.round += 1;
        }
    }

    fn send(&mut self, sequence: u16, ticks: u32, pt: Pt, payload: &[u8], now: Now) {
        if payload.is_empty() {
            return;
        }
        let packet = Packet {
            marker: false,
            pt,
            sequence: SequenceNumber(sequence),
            timestamp: RtpTimestamp(ticks),
            ssrc: Ssrc(9),
            payload,
        };
        let mut out = [0; 1500];
        let len = packet.write(&mut out);
        let from = super::tests::far_end(4000);
        assert!(self.legs.0[0].receive(&out[..len], from, now, &mut self.events));
    }

    fn hear(&mut self) {
        let mut sound = Sound::default();
        let mut out = Outbox::new(1);
        let codec = self.legs.0[1].codec();
        let hearing = Hearing { sources: &[0], ..Hearing::default() };
        mixer::hear(hearing, codec, self.round, &mut self.legs, &mut sound);
        self.legs.0[1].tick_send(
            self.round,
            Duration::from_millis(20 * self.round),
            &mut sound,
            &mut out,
            &mut self.events,
        );
        self.received.extend(out.packets().map(|(_, octets)| {
            let packet = Packet::parse(octets).unwrap();
            Received {
                sequence: packet.sequence.0,
                timestamp: packet.timestamp.0,
                payload: packet.payload.to_vec(),
            }
        }));
    }

    /// What the second far end hears.
    fn heard(&self) -> Vec<i16> {
        let codec = self.legs.0[1].codec();
        let mut decoder = Decoder::new(codec);
        let mut heard = Vec::new();
        let mut pcm = [0; PCM_SAMPLES];
        let mut queued = 0;
        let mut expected = self.received[0].timestamp;
        for packet in &self.received {
            while expected != packet.timestamp {
                decoder.conceal(&mut pcm);
                heard.extend_from_slice(&pcm);
                expected = expected.wrapping_add(codec.frame_ticks());
            }
            expected = expected.wrapping_add(codec.payload_ticks(&packet.payload).unwrap());
            decoder.push(&packet.payload);
            queued += codec.payload_ticks(&packet.payload).unwrap();
            while queued >= codec.frame_ticks() {
                decoder.pull(&mut pcm);
                heard.extend_from_slice(&pcm);
                queued -= codec.frame_ticks();
            }
        }
        heard
    }
}

/// A tone in packets of a time; those of Opus are of 20 ms.
fn line(codec: Codec, packet_time_ms: u8, frames: usize) -> Line {
    cut(codec, packet_time_ms, encoded_tone(codec, frames))
}

fn cut(codec: Codec, packet_time_ms: u8, frames: Vec<Vec<u8>>) -> Line {
    let pt = connection(codec, 20).payload_type;
    if codec == Codec::Opus {
        return (0..).step_by(20).zip(frames).map(|(at_ms, frame)| (at_ms, pt, frame)).collect();
    }
    let octets = frames[0].len() * usize::from(packet_time_ms) / 20;
    let stream = frames.concat();
    let times = (0..).step_by(packet_time_ms.into());
    times.zip(stream.chunks(octets)).map(|(at_ms, payload)| (at_ms, pt, payload.to_vec())).collect()
}

/// The octets of a payload in whatever packets it came: Opus says in them how they are joined.
fn octets(codec: Codec, payload: &[u8]) -> Vec<u8> {
    if codec == Codec::Opus { opus_frames(payload).concat() } else { payload.to_vec() }
}

fn contains(stream: &[u8], part: &[u8]) -> bool {
    stream.windows(part.len()).any(|window| window == part)
}

#[test]
fn like_legs_pass_every_octet_on_in_every_packet_time() {
    for codec in Codec::ALL {
        let frames = encoded_tone(codec, 50);
        for from_ms in PACKET_TIMES_MS {
            for to_ms in PACKET_TIMES_MS {
                let mut bridge = Bridge::new(connection(codec, from_ms), connection(codec, to_ms));
                let line = cut(codec, from_ms, frames.clone());
                let sent: Vec<u8> =
                    line.iter().flat_map(|(_, _, payload)| octets(codec, payload)).collect();
                bridge.run(line, 50);
                // All but the start, until audio flows, and the end, which is still on its way.
                let middle = &sent[..sent.len() * 3 / 4];
                let case = format!("{codec:?} from {from_ms} to {to_ms} ms");
                let received: Vec<u8> = bridge
                    .received
                    .iter()
                    .flat_map(|packet| octets(codec, &packet.payload))
                    .collect();
                assert!(contains(&received, middle), "{case}");
                // Before audio flows there is silence of our own, which Opus makes as asked for.
                let passed = &bridge.received[3..];
                let steps: Vec<_> = passed
                    .windows(2)
                    .map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp))
                    .collect();
                let ticks = codec.payload_ticks(&passed[0].payload).unwrap();
                assert!(steps.iter().all(|step| *step == ticks), "{case}: {steps:?}");
            }
        }
    }
}

#[test]
fn a_tone_crosses_every_pair_of_unlike_legs() {
    for from in Codec::ALL {
        for to in Codec::ALL.into_iter().filter(|to| *to != from) {
            let mut bridge = Bridge::new(connection(from, 20), connection(to, 20));
            bridge.run(line(from, 20, 45), 45);
            let heard = bridge.heard();
            let (tone, rest) = tone_and_rest(&heard[20 * PCM_SAMPLES..]);
            assert!((tone - TONE_DBOV).abs() < 2.0, "{from:?} to {to:?}: tone at {tone} dBov");
            assert!(rest < tone - 10.0, "{from:?} to {to:?}: rest at {rest} dBov");
        }
    }
}

#[test]
fn a_tone_crosses_in_any_packet_time() {
    let pairs =
        [(Codec::Pcma, Codec::G729), (Codec::G722, Codec::Pcmu), (Codec::Pcma, Codec::Opus)];
    for (from, to) in pairs {
        for (from_ms, to_ms) in [(10, 60), (30, 10), (60, 50), (50, 30), (40, 40)] {
            let mut bridge = Bridge::new(connection(from, from_ms), connection(to, to_ms));
            bridge.run(line(from, from_ms, 90), 90);
            let heard = bridge.heard();
            let (tone, rest) = tone_and_rest(&heard[20 * PCM_SAMPLES..80 * PCM_SAMPLES]);
            let case = format!("{from:?} in {from_ms} ms to {to:?} in {to_ms} ms");
            assert!((tone - TONE_DBOV).abs() < 2.0, "{case}: tone at {tone} dBov");
            assert!(rest < tone - 10.0, "{case}: rest at {rest} dBov");
        }
    }
}

#[test]
fn one_packet_in_twenty_lost_leaves_no_gap() {
    for from in Codec::ALL {
        for to in [from, Codec::Pcmu, Codec::G729] {
            let mut bridge = Bridge::new(connection(from, 20), connection(to, 20));
            let mut line = line(from, 20, 100);
            for packet in line.iter_mut().skip(30).step_by(20) {
                packet.2.clear();
            }
            bridge.run(line, 100);
            let passed = from == to && from.law().is_none();
            // Where frames are passed on the far end covers the loss, otherwise we do.
            assert_eq!(bridge.received.len(), if passed { 96 } else { 100 }, "{from:?} to {to:?}");
            // The models of a voice in G.729 and Opus cover no steady tones: after a loss libbcg729
            // falls by 28 dB for a while.
            let models_voice = matches!(from, Codec::G729 | Codec::Opus);
            let lowest = TONE_DBOV - if models_voice { 28.0 } else { 6.0 };
            let heard = bridge.heard();
            for frame in heard[20 * PCM_SAMPLES..].as_chunks::<PCM_SAMPLES>().0 {
                let level = level::dbov(frame);
                assert!(level > lowest, "{from:?} to {to:?}: {level} dBov");
            }
        }
    }
}

#[test]
fn comfort_noise_is_heard_until_audio_comes_again() {
    let quiet = Connection { media_timeout_ms: 500, ..connection(Codec::Pcma, 20) };
    let mut bridge = Bridge::new(quiet, connection(Codec::Pcmu, 20));
    let mut line = line(Codec::Pcma, 20, 30);
    line.push_back((600, Pt::COMFORT_NOISE, vec![60]));
    bridge.run(line, 120);
    assert_eq!(bridge.events, [], "a far end that is silent is not dead");
    let heard = bridge.heard();
    for frame in heard[40 * PCM_SAMPLES..].as_chunks::<PCM_SAMPLES>().0 {
        let level = level::dbov(frame);
        assert!((level + 60.0).abs() < 3.0, "{level} dBov");
    }
    bridge.run(self::line(Codec::Pcma, 20, 20), 20);
    assert!(level::dbov(&bridge.heard()[130 * PCM_SAMPLES..]) > -19.0);
    bridge.run(Line::new(), 30);
    assert_eq!(bridge.events, [Event::MediaTimedOut(PortId(1))]);
}

#[test]
fn silence_that_lasts_too_long_is_reported_after_all() {
    let quiet = Connection { media_timeout_ms: 500, ..connection(Codec::Pcma, 20) };
    let mut bridge = Bridge::new(quiet, connection(Codec::Pcma, 20));
    bridge.run(Line::from([(0, Pt::COMFORT_NOISE, vec![60])]), 99);
    assert_eq!(bridge.events, []);
    bridge.run(Line::new(), 2);
    assert_eq!(bridge.events, [Event::MediaTimedOut(PortId(1))]);
}

#[test]
fn silence_of_g729_is_noise_of_the_level_described() {
    let mut bridge = Bridge::new(connection(Codec::G729, 20), connection(Codec::Pcma, 20));
    let mut line = line(Codec::G729, 20, 30);
    // Predictor 0, a flat spectrum, a level of index 9.
    line.push_back((600, Pt(18), vec![0b0000_0000, 0b0001_0010]));
    bridge.run(line, 100);
    let heard = bridge.heard();
    let tail = &heard[60 * PCM_SAMPLES..];
    let levels: Vec<f32> =
        tail.as_chunks::<PCM_SAMPLES>().0.iter().map(|frame| level::dbov(frame)).collect();
    assert!(levels.iter().all(|level| (-70.0..-40.0).contains(level)), "{levels:?}");
}

#[test]
fn opus_that_sends_little_in_silence_is_not_lost() {
    for to in [Codec::Opus, Codec::Pcma] {
        let mut bridge = Bridge::new(connection(Codec::Opus, 20), connection(to, 20));
        let mut line = line(Codec::Opus, 20, 30);
        let toc = line[29].2[0];
        for at_ms in (600..1800).step_by(400) {
            line.push_back((at_ms, Pt(111), vec![toc]));
        }
        bridge.run(line, 90);
        // Like legs pass on what there is; others hear the decoder's noise.
        let count = bridge.received.len();
        if to == Codec::Opus {
            assert!((33..40).contains(&count), "{count}");
        } else {
            assert_eq!(count, 90);
        }
    }
}

#[test]
fn another_codec_begins_afresh_in_the_middle_of_a_call() {
    let mut bridge = Bridge::new(connection(Codec::Pcma, 20), connection(Codec::Opus, 20));
    bridge.run(line(Codec::Pcma, 20, 30), 30);
    bridge.legs.0[0].connect(connection(Codec::G722, 30), Duration::from_millis(600));
    bridge.legs.0[1].connect(connection(Codec::G729, 60), Duration::from_millis(600));
    bridge.received.clear();
    bridge.run(line(Codec::G722, 30, 60), 60);
    let heard = bridge.heard();
    let (tone, _) = tone_and_rest(&heard[20 * PCM_SAMPLES..50 * PCM_SAMPLES]);
    assert!((tone - TONE_DBOV).abs() < 2.0, "tone at {tone} dBov");
    assert!(bridge.received.iter().all(|packet| packet.payload.len() == 60));
}

#[test]
fn who_begins_to_need_samples_of_passed_audio_hears_it() {
    for codec in Codec::ALL {
        let mut bridge = Bridge::new(connection(codec, 20), connection(codec, 20));
        let mut line = line(codec, 20, 80);
        let late = line.split_off(40);
        bridge.run(line, 40);
        let mut heard = Vec::new();
        for (index, (_, pt, payload)) in late.into_iter().enumerate() {
            bridge.run(Line::from([(0, pt, payload)]), 1);
            let round = bridge.round - 1;
            if index >= 10 {
                heard.extend_from_slice(bridge.legs.0[0].pcm(round).unwrap());
            }
        }
        let (tone, _) = tone_and_rest(&heard);
        // A decoder of G.729 that begins within a steady tone is long in finding its level.
        let margin = if codec == Codec::G729 { 7.0 } else { 2.0 };
        assert!((tone - TONE_DBOV).abs() < margin, "{codec:?}: tone at {tone} dBov");
    }
}
