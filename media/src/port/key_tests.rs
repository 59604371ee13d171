//! Keys through ports: sent, received and passed on, as events and as tones.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::dtmf::{Press, Receiver, Sender, Sending as Step};
use crate::dtmf_detector::DtmfDetector;
use crate::event::{Detect, DigitSource, Rtcp};
use crate::g711::Law;
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use crate::test_noise::Chance;
use crate::tone::KeyTone;

const EVENTS: Option<Pt> = Some(Pt(101));
const LISTENING: Detect = Detect { keys: true, fax: false, progress: false, answer: false };

fn far_end() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}

fn port(id: u64, digit_pt: Option<Pt>, detect: Detect) -> Port {
    let start = StreamStart {
        ssrc: Ssrc(id as u32),
        sequence: SequenceNumber(65_530),
        timestamp: RtpTimestamp(u32::MAX - 5000),
    };
    let reports = ReportStart { random: [1; 12], behind_1900: Duration::ZERO };
    let mut port = Port::new(PortId(id), start, reports);
    let connection = Connection {
        remote: far_end(),
        codec: Codec::Pcma,
        payload_type: Pt(8),
        digit_pt,
        heard_as: None,
        packet_time_ms: 20,
        send: true,
        receive: true,
        media_timeout_ms: 0,
        security: None,
        detect,
        rtcp: Rtcp::None,
    };
    port.connect(connection, Duration::ZERO);
    port
}

/// A phone: sends its keys as events, as tones, or as both, like some gateways.
struct Phone {
    events: Option<Sender>,
    tones: Sender,
    tone: Option<KeyTone>,
    sequence: u16,
    round: u32,
}

impl Phone {
    fn new(events: bool, tones: bool, digits: &str) -> Self {
        let sender = || {
            let mut sender = Sender::default();
            sender.push(digits, 100, 100);
            sender
        };
        Self {
            events: events.then(sender),
            tones: if tones { sender() } else { Sender::default() },
            tone: None,
            sequence: 0,
            round: 0,
        }
    }

    /// The packets of the next 20 ms.
    fn tick(&mut self) -> Vec<Vec<u8>> {
        let clock = RtpTimestamp(self.round * 160);
        self.round += 1;
        let mut packets = Vec::new();
        let mut pcm = [0i16; 160];
        if let Step::Packet { tone, .. } = self.tones.step(clock, 160) {
            if let crate::dtmf::Tone::First(key) = tone {
                self.tone = KeyTone::new(key);
            }
            if tone != crate::dtmf::Tone::Over {
                self.tone.as_mut().unwrap().fill(&mut pcm, tone == crate::dtmf::Tone::Last);
            }
        }
        let octets = pcm.map(|sample| Law::A.encode(sample));
        packets.push(self.packet(8, false, clock, &octets));
        if let Some(events) = &mut self.events
            && let Step::Packet { marker, timestamp, payload, .. } = events.step(clock, 160)
        {
            packets.push(self.packet(101, marker, timestamp, &payload));
        }
        packets
    }

    fn packet(&mut self, pt: u8, marker: bool, timestamp: RtpTimestamp, payload: &[u8]) -> Vec<u8> {
        let sequence = SequenceNumber(self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        let mut octets = vec![0; 12 + payload.len()];
        Packet { marker, pt: Pt(pt), sequence, timestamp, ssrc: Ssrc(99), payload }
            .write(&mut octets);
        octets
    }
}

fn now(round: u64) -> Now {
    Duration::from_millis(20) * round as u32
}

/// Digits reported of a phone, each with how it came.
fn reported(phone: &mut Phone, port: &mut Port, rounds: u64, loss: f64, seed: u64) -> Vec<Event> {
    let (mut events, mut chance) = (Vec::new(), Chance(seed));
    let mut late: VecDeque<Vec<u8>> = VecDeque::new();
    for round in 0..rounds {
        for packet in phone.tick() {
            if chance.uniform() < loss {
                continue;
            }
            if loss > 0.0 && chance.uniform() < 0.1 {
                late.push_back(packet);
                continue;
            }
            port.receive(&packet, far_end(), now(round), &mut events);
            // Some packets come twice, and late ones out of order.
            if loss > 0.0 && chance.uniform() < 0.1 {
                port.receive(&packet, far_end(), now(round), &mut events);
            }
            if let Some(late) = late.pop_front() {
                port.receive(&late, far_end(), now(round), &mut events);
            }
        }
        port.tick_receive(round, now(round), &mut events);
    }
    events
}

fn keys(events: &[Event], source: DigitSource) -> String {
    let keys = events.iter().map(|event| match event {
        Event::Digit(_, key, _, from) if *from == source => *key,
        other => panic!("{other:?}"),
    });
    keys.collect()
}

#[test]
fn keys_are_heard_in_the_audio_where_it_is_asked_for() {
    let digits = "1590*#AD";
    let mut listening = port(1, None, LISTENING);
    let events = reported(&mut Phone::new(false, true, digits), &mut listening, 100, 0.0, 1);
    assert_eq!(keys(&events, DigitSource::Inband), digits);
    for event in &events {
        let Event::Digit(_, _, duration_ms, _) = event else { unreachable!() };
        assert!((90..=110).contains(duration_ms), "{event:?}");
    }
    let mut deaf = port(1, None, Detect::default());
    assert_eq!(reported(&mut Phone::new(false, true, digits), &mut deaf, 100, 0.0, 1), []);
}

#[test]
fn a_key_that_comes_both_ways_is_one_press() {
    for seed in 0..20 {
        let loss = if seed == 0 { 0.0 } else { 0.05 };
        let mut phone = Phone::new(true, true, "1133557799");
        let mut port = port(1, EVENTS, LISTENING);
        let events = reported(&mut phone, &mut port, 140, loss, seed);
        assert_eq!(keys(&events, DigitSource::Rfc4733), "1133557799", "{seed}");
    }
}

#[test]
fn events_survive_loss_repetition_and_reordering() {
    for seed in 1..60 {
        let mut phone = Phone::new(true, false, "0123456789*#");
        let mut port = port(1, EVENTS, Detect::default());
        let events = reported(&mut phone, &mut port, 160, 0.2, seed);
        assert_eq!(keys(&events, DigitSource::Rfc4733), "0123456789*#", "{seed}");
    }
}

#[test]
fn digits_are_sent_as_tones_where_events_were_not_negotiated() {
    let mut port = port(1, None, Detect::default());
    let mut events = Vec::new();
    port.send_digits("95598#", 80, 60, &mut events);
    assert_eq!(events, []);
    let mut detector = DtmfDetector::default();
    let mut heard = String::new();
    for round in 0..60 {
        let pcm = audio(&mut port, round, 0, &mut events).unwrap();
        heard.extend(detector.hear(&pcm).map(|press| press.key));
    }
    assert_eq!(heard, "95598#");
    assert_eq!(events, [Event::DigitsSent(PortId(1))]);
}

/// What a port sends in a round; None when it sends an event. `said` is the octet that its sources
/// are saying.
fn audio(port: &mut Port, round: u64, said: u8, events: &mut Vec<Event>) -> Option<Pcm> {
    let mut out = Outbox::new(1);
    let mut sound = Sound::default();
    sound.set_encoded(Codec::Pcma, &[said; 160]);
    port.tick_send(round, now(round), &mut sound, &mut out, events);
    let (_, octets) = out.packets().next()?;
    let packet = Packet::parse(octets).unwrap();
    assert_eq!(packet.pt, Pt(8));
    Some(std::array::from_fn(|at| Law::A.decode(packet.payload[at])))
}

/// A conversation of two phones over two ports.
struct Bridge {
    phone: Phone,
    from: Port,
    to: Port,
    route: KeyRoute,
    events: Vec<Event>,
}

impl Bridge {
    fn new(digits: &str, digit_pt: Option<Pt>) -> Self {
        let from = port(1, EVENTS, Detect::default());
        let route = KeyRoute::new(0, from.key_log());
        let to = port(2, digit_pt, Detect::default());
        Self { phone: Phone::new(true, false, digits), from, to, route, events: Vec::new() }
    }

    /// 20 ms; returns what the second phone gets.
    fn tick(&mut self, round: u64, lost: bool) -> Option<Vec<u8>> {
        for packet in self.phone.tick() {
            if !lost {
                self.from.receive(&packet, far_end(), now(round), &mut self.events);
            }
        }
        self.from.tick_receive(round, now(round), &mut self.events);
        self.route.pass(self.from.key_log(), &mut self.to);
        let mut out = Outbox::new(1);
        let mut sound = Sound::default();
        sound.set_encoded(Codec::Pcma, &[Law::A.silence(); 160]);
        self.to.tick_send(round, now(round), &mut sound, &mut out, &mut self.events);
        out.packets().next().map(|(_, octets)| octets.to_vec())
    }
}

#[test]
fn a_key_reaches_the_other_phone_as_it_is_pressed() {
    for seed in 0..20 {
        let mut chance = Chance(seed);
        let mut bridge = Bridge::new("159*", EVENTS);
        let mut receiver = Receiver::default();
        let mut heard: Vec<Press> = Vec::new();
        for round in 0..70 {
            let lost = seed > 0 && chance.uniform() < 0.1;
            let octets = bridge.tick(round, lost).unwrap();
            let packet = Packet::parse(&octets).unwrap();
            if packet.pt == Pt(101) {
                heard.extend(receiver.receive(&packet, now(round)).unwrap().into_iter().flatten());
            }
            if seed == 0 && round == 0 {
                assert_eq!(packet.pt, Pt(101), "it begins in the same 20 ms");
            }
            heard.extend(receiver.poll(now(round)));
        }
        let keys: String = heard.iter().map(|press| press.key).collect();
        assert_eq!(keys, "159*", "{seed}");
        for press in heard {
            let off = press.duration_ms.abs_diff(100);
            assert!(off <= if seed == 0 { 0 } else { 60 }, "{seed} {press:?}");
        }
        assert!(!bridge.events.contains(&Event::DigitsSent(PortId(2))));
    }
}

#[test]
fn a_phone_without_events_gets_the_tone() {
    let mut bridge = Bridge::new("159*", None);
    let mut detector = DtmfDetector::default();
    let mut heard = String::new();
    for round in 0..70 {
        let octets = bridge.tick(round, false).unwrap();
        let packet = Packet::parse(&octets).unwrap();
        assert_eq!(packet.pt, Pt(8));
        let pcm = std::array::from_fn(|at| Law::A.decode(packet.payload[at]));
        heard.extend(detector.hear(&pcm).map(|press| press.key));
    }
    assert_eq!(heard, "159*");
}

#[test]
fn a_route_that_ends_releases_the_key() {
    let mut bridge = Bridge::new("5", EVENTS);
    for round in 0..3 {
        bridge.tick(round, false);
    }
    bridge.route.end(&mut bridge.to);
    let mut ends = 0;
    for round in 3..12 {
        let mut out = Outbox::new(1);
        bridge.to.tick_send(round, now(round), &mut Sound::default(), &mut out, &mut bridge.events);
        let (_, octets) = out.packets().next().unwrap();
        let packet = Packet::parse(octets).unwrap();
        ends += u32::from(packet.pt == Pt(101) && packet.payload[1] & 0x80 != 0);
    }
    assert_eq!(ends, 3);
}

proptest::proptest! {
    /// Whatever is said, the detectors say something or nothing, and never panic.
    #[test]
    fn any_audio_is_listened_to(
        pieces in proptest::collection::vec((proptest::num::i16::ANY, 1usize..400, 0u8..4), 1..40),
    ) {
        let samples: Vec<i16> = pieces
            .iter()
            .flat_map(|(value, len, kind)| {
                (0..*len).map(move |at| match kind {
                    0 => *value,
                    1 => value.wrapping_mul(at as i16),
                    2 => if at % 2 == 0 { *value } else { value.wrapping_neg() },
                    _ => ((f64::from(*value) / 9.0 * at as f64).sin() * 32_767.0) as i16,
                })
            })
            .collect();
        let all = Detect { keys: true, fax: true, progress: true, answer: true };
        let mut listening = listening::Listening::to(all);
        let mut events = Vec::new();
        for (round, pcm) in samples.as_chunks().0.iter().enumerate() {
            listening.hear(PortId(1), round as u64, Some(pcm), false, now(round as u64), &mut events);
        }
    }
}
