use std::sync::Arc;
use std::time::Duration;

use super::receiving::MAX_PAYLOAD_LEN;
use super::*;
use crate::event::{DigitSource, Rtcp};
use crate::g711::Law;
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};

const MS: Duration = Duration::from_millis(1);
pub(super) const START: StreamStart = StreamStart {
    ssrc: Ssrc(7),
    sequence: SequenceNumber(65_534),
    timestamp: RtpTimestamp(u32::MAX - 200),
};

pub(super) const REPORTS: ReportStart =
    ReportStart { random: [7; 12], behind_1900: Duration::ZERO };

pub(super) fn far_end(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

pub(super) fn connection() -> Connection {
    Connection {
        remote: far_end(4000),
        codec: Codec::Pcma,
        payload_type: Pt(8),
        digit_pt: Some(Pt(101)),
        heard_as: None,
        packet_time_ms: 20,
        send: true,
        receive: true,
        media_timeout_ms: 0,
        security: None,
        detect: Detect::default(),
        rtcp: Rtcp::None,
    }
}

fn pcma(clips: &[&[u8]]) -> Clips {
    Clips::Law(Law::A, clips.iter().map(|clip| Arc::from(*clip)).collect())
}

/// A port with what it sent and reported; time runs in rounds of 20 ms.
struct Bench {
    port: Port,
    round: u64,
    events: Vec<Event>,
}

#[derive(Debug, PartialEq)]
struct Sent {
    marker: bool,
    pt: u8,
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
}

impl Sent {
    fn of(octets: &[u8]) -> Self {
        let packet = Packet::parse(octets).unwrap();
        assert_eq!(packet.ssrc, START.ssrc);
        Self {
            marker: packet.marker,
            pt: packet.pt.0,
            sequence: packet.sequence.0,
            timestamp: packet.timestamp.0,
            payload: packet.payload.to_vec(),
        }
    }
}

impl Bench {
    fn new(connection: Connection) -> Self {
        let mut port = Port::new(PortId(1), START, REPORTS);
        port.connect(connection, Duration::ZERO);
        Self { port, round: 0, events: Vec::new() }
    }

    fn now(&self) -> Now {
        20 * MS * self.round as u32
    }

    /// Everything sent in one round.
    fn tick_all(&mut self, sound: Option<(Codec, u8)>) -> Vec<Sent> {
        let mut out = Outbox::new(1);
        let mut heard = Sound::default();
        if let Some((codec, octet)) = sound {
            heard.set_encoded(codec, &[octet; 160]);
        }
        self.port.tick_receive(self.round, self.now(), &mut self.events);
        self.port.tick_send(self.round, self.now(), &mut heard, &mut out, &mut self.events);
        self.round += 1;
        out.packets().map(|(_, octets)| Sent::of(octets)).collect()
    }

    fn tick(&mut self) -> Option<Sent> {
        self.tick_all(None).pop()
    }

    fn receive(&mut self, pt: u8, index: u16, payload: &[u8], from: SocketAddr) -> bool {
        let mut out = [0; 1500];
        let packet = Packet {
            marker: false,
            pt: Pt(pt),
            sequence: SequenceNumber(index),
            timestamp: RtpTimestamp(u32::from(index) * 160),
            ssrc: Ssrc(9),
            payload,
        };
        let len = packet.write(&mut out);
        let now = self.now();
        self.port.receive(&out[..len], from, now, &mut self.events)
    }

    fn play(&mut self, play: u64, clips: &[&[u8]], looped: bool) {
        self.port.play(PlayId(play), looped);
        self.port.loaded(PlayId(play), Ok(pcma(clips)), &mut self.events);
    }
}

#[test]
fn a_port_that_is_not_connected_is_quiet() {
    let mut port = Port::new(PortId(1), START, REPORTS);
    let mut events = Vec::new();
    port.tick_receive(0, MS, &mut events);
    let mut out = Outbox::new(1);
    port.tick_send(0, MS, &mut Sound::default(), &mut out, &mut events);
    assert_eq!(out.packets().count(), 0);
    assert!(port.receive(b"anything", far_end(1), MS, &mut events));
    assert_eq!((port.figures(), port.destination()), (PortFigures::default(), None));
}

#[test]
fn silence_flows_with_one_marker_and_wrapping_counters() {
    let mut bench = Bench::new(connection());
    for index in 0..5u16 {
        let sent = bench.tick().unwrap();
        let expected = Sent {
            marker: index == 0,
            pt: 8,
            sequence: START.sequence.0.wrapping_add(index),
            timestamp: START.timestamp.0.wrapping_add(u32::from(index) * 160),
            payload: vec![Law::A.silence(); 160],
        };
        assert_eq!(sent, expected);
    }
    assert_eq!(bench.port.figures().packets_sent, 5);
}

#[test]
fn a_round_left_out_shows_in_the_timestamp() {
    let mut bench = Bench::new(connection());
    let first = bench.tick().unwrap();
    bench.round += 3;
    let second = bench.tick().unwrap();
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 4 * 160);
    assert_eq!(second.sequence, first.sequence.wrapping_add(1));
    bench.round -= 1;
    assert_eq!(bench.tick(), None, "the same round again");
}

#[test]
fn a_prompt_plays_to_its_end_and_is_reported_once() {
    let mut bench = Bench::new(connection());
    bench.play(5, &[&[1; 160], &[2; 160]], false);
    assert_eq!(bench.tick().unwrap().payload, [1; 160]);
    assert_eq!(bench.tick().unwrap().payload, [2; 160]);
    assert_eq!(bench.events, []);
    assert_eq!(bench.tick().unwrap().payload, [Law::A.silence(); 160]);
    bench.tick();
    let ended = Event::PlayEnded(PortId(1), PlayId(5), true, String::new());
    assert_eq!(bench.events, [ended]);
}

#[test]
fn a_play_is_replaced_silently_and_stopped_aloud() {
    let mut bench = Bench::new(connection());
    bench.port.play(PlayId(1), false);
    bench.play(2, &[&[2; 160]], true);
    // The loader answers the replaced play late.
    bench.port.loaded(PlayId(1), Ok(pcma(&[&[1; 160]])), &mut bench.events);
    assert_eq!(bench.tick().unwrap().payload, [2; 160]);
    bench.port.stop_play(&mut bench.events);
    bench.port.stop_play(&mut bench.events);
    bench.port.play(PlayId(3), false);
    bench.port.loaded(PlayId(3), Err("why".into()), &mut bench.events);
    let ended = |play, error: &str| Event::PlayEnded(PortId(1), PlayId(play), false, error.into());
    assert_eq!(bench.events, [ended(2, ""), ended(3, "why")]);
}

#[test]
fn a_prompt_goes_on_in_time_while_sending_is_off() {
    let mut bench = Bench::new(Connection { send: false, ..connection() });
    bench.play(1, &[&[1; 320]], false);
    for _ in 0..3 {
        assert_eq!(bench.tick(), None);
    }
    assert_eq!(bench.events.len(), 1);
    bench.port.connect(connection(), Duration::ZERO);
    assert!(bench.tick().unwrap().marker);
}

#[test]
fn packets_of_40_ms_hold_two_frames() {
    let mut bench = Bench::new(Connection { packet_time_ms: 40, ..connection() });
    bench.play(1, &[&[1; 160], &[2; 160]], false);
    assert_eq!(bench.tick(), None);
    let sent = bench.tick().unwrap();
    assert_eq!(sent.timestamp, START.timestamp.0);
    assert_eq!(sent.payload, [[1; 160], [2; 160]].concat());
}

#[test]
fn what_is_heard_is_passed_on_or_encoded() {
    let mut bench =
        Bench::new(Connection { codec: Codec::Pcmu, payload_type: Pt(0), ..connection() });
    let sent = bench.tick_all(Some((Codec::Pcmu, 7))).pop().unwrap();
    assert_eq!((sent.pt, &sent.payload[..]), (0, &[7; 160][..]));
    let mut out = Outbox::new(1);
    let mut sound = Sound::default();
    *sound.start_pcm() = [9000; 160];
    bench.port.tick_send(bench.round, bench.now(), &mut sound, &mut out, &mut bench.events);
    let sent = Sent::of(out.packets().next().unwrap().1);
    assert_eq!(sent.payload, [Law::Mu.encode(9000); 160]);
}

#[test]
fn digits_take_the_place_of_audio() {
    let mut bench = Bench::new(connection());
    bench.tick();
    bench.port.send_digits("5", 60, 60, &mut bench.events);
    let packets: Vec<_> = (0..7).map(|_| bench.tick().unwrap()).collect();
    let kinds: Vec<_> = packets.iter().map(|sent| (sent.pt, sent.marker)).collect();
    let event = (101, false);
    assert_eq!(kinds, [(101, true), event, event, event, event, (8, true), (8, false)]);
    assert_eq!(packets[0].timestamp, packets[4].timestamp);
    assert_eq!(packets[5].timestamp.wrapping_sub(packets[0].timestamp), 5 * 160);
    assert_eq!(packets[6].sequence, START.sequence.0.wrapping_add(7));
    assert_eq!(bench.events, [Event::DigitsSent(PortId(1))]);
}

#[test]
fn packets_follow_the_far_end_to_the_port_it_sends_from() {
    let mut bench = Bench::new(connection());
    assert_eq!(bench.port.destination(), Some(far_end(4000)));
    assert!(bench.receive(8, 0, &[1; 160], far_end(31_000)));
    assert_eq!(bench.port.destination(), Some(far_end(31_000)));
    // A re-INVITE with the same address keeps what was learnt, one with another forgets it.
    bench.port.connect(connection(), Duration::ZERO);
    assert_eq!(bench.port.destination(), Some(far_end(31_000)));
    bench.port.connect(Connection { remote: far_end(5000), ..connection() }, Duration::ZERO);
    assert_eq!(bench.port.destination(), Some(far_end(5000)));
}

#[test]
fn a_stray_stream_of_the_same_address_waits_for_the_first_to_end() {
    let mut bench = Bench::new(connection());
    assert!(bench.receive(8, 0, &[1; 160], far_end(31_000)));
    bench.round += 5;
    assert!(!bench.receive(8, 1, &[1; 160], far_end(32_000)));
    assert!(bench.receive(8, 1, &[1; 160], far_end(31_000)));
    bench.round += 10;
    assert!(bench.receive(8, 2, &[1; 160], far_end(32_000)));
    assert_eq!(bench.port.destination(), Some(far_end(32_000)));
}

#[test]
fn foreign_and_malformed_datagrams_are_counted_and_change_nothing() {
    let mut bench = Bench::new(connection());
    let stranger = SocketAddr::from(([192, 0, 2, 2], 4000));
    assert!(!bench.receive(8, 0, &[1; 160], stranger));
    assert!(!bench.receive(0, 0, &[1; 160], far_end(1)), "the other law");
    assert!(!bench.receive(8, 0, &[], far_end(1)), "no audio");
    assert!(!bench.receive(8, 0, &[1; MAX_PAYLOAD_LEN + 1], far_end(1)), "too much audio");
    assert!(!bench.receive(101, 0, &[1, 2, 3], far_end(1)), "a short event");
    assert!(!bench.port.receive(b"GET / HTTP/1.1", far_end(1), MS, &mut bench.events));
    assert!(bench.receive(13, 0, &[40], far_end(4000)), "comfort noise");
    let figures = bench.port.figures();
    assert_eq!((figures.packets_invalid, figures.packets_received), (6, 1));
    assert_eq!(bench.port.destination(), Some(far_end(4000)));
}

#[test]
fn the_far_end_may_send_with_other_numbers_than_it_is_sent() {
    let heard_as = Some((Pt(96), Some(Pt(97))));
    let mut bench = Bench::new(Connection { heard_as, ..connection() });
    assert!(bench.receive(96, 0, &[1; 160], far_end(4000)));
    assert!(!bench.receive(8, 1, &[1; 160], far_end(4000)));
    assert!(bench.receive(97, 2, &[11, 0x8a, 3, 0x20], far_end(4000)));
    assert_eq!(bench.tick_all(Some((Codec::Pcma, 7))).pop().unwrap().pt, 8);
}

#[test]
fn ipv4_mapped_addresses_are_the_same_address() {
    let mut bench = Bench::new(connection());
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:4000".parse().unwrap();
    assert!(bench.receive(8, 0, &[1; 160], mapped));
}

#[test]
fn keys_are_reported_once() {
    let mut bench = Bench::new(connection());
    for _ in 0..3 {
        bench.receive(101, 1, &[11, 0x8a, 3, 0x20], far_end(4000));
    }
    assert_eq!(bench.events, [Event::Digit(PortId(1), '#', 100, DigitSource::Rfc4733)]);
}

#[test]
fn audio_is_buffered_only_while_someone_listens() {
    let mut bench = Bench::new(connection());
    for index in 0..4 {
        bench.receive(8, index, &[index as u8 + 1; 160], far_end(4000));
        bench.tick();
        assert_eq!(bench.port.encoded(bench.round - 1), None);
    }
    bench.port.set_listeners(1);
    let mut heard = Vec::new();
    for index in 4..8 {
        bench.receive(8, index, &[index as u8 + 1; 160], far_end(4000));
        bench.tick();
        let round = bench.round - 1;
        heard.extend(bench.port.encoded(round).map(|encoded| encoded.payload()[0]));
    }
    assert_eq!(heard, [5, 6, 7]);
    let round = bench.round - 1;
    assert_eq!(bench.port.pcm(round).map(|pcm| pcm[0]), Some(Law::A.decode(7)));
    assert!(bench.port.encoded(round + 1).is_none() && bench.port.pcm(round + 1).is_none());
}

#[test]
fn held_audio_is_not_heard() {
    let mut bench = Bench::new(Connection { receive: false, ..connection() });
    bench.port.set_listeners(1);
    for index in 0..4 {
        assert!(bench.receive(8, index, &[1; 160], far_end(4000)));
        bench.tick();
    }
    assert_eq!(bench.port.encoded(bench.round - 1), None);
    assert_eq!(bench.port.figures().packets_received, 4);
}

#[test]
fn missing_media_is_reported_once_until_it_comes_again() {
    let mut bench = Bench::new(Connection { media_timeout_ms: 100, ..connection() });
    for _ in 0..20 {
        bench.tick();
    }
    assert_eq!(bench.events, [Event::MediaTimedOut(PortId(1))]);
    bench.receive(8, 0, &[1; 160], far_end(4000));
    for _ in 0..20 {
        bench.tick();
    }
    assert_eq!(bench.events.len(), 2);
    bench.port.connect(connection(), bench.now());
    for _ in 0..20 {
        bench.tick();
    }
    assert_eq!(bench.events.len(), 2);
}

/// The samples of a frame of PCMA.
fn pcma_samples(sent: &Sent) -> Vec<i16> {
    sent.payload.iter().map(|octet| Law::A.decode(*octet)).collect()
}

#[test]
fn what_plays_and_what_is_heard_fade_into_each_other() {
    let mut bench = Bench::new(connection());
    let (loud, other) = (Law::A.encode(8000), Law::A.encode(-8000));
    let heard = Some((Codec::Pcma, loud));
    assert_eq!(bench.tick_all(heard)[0].payload, [loud; 160]);
    bench.play(1, &[&[other; 400]], true);
    let falls = pcma_samples(&bench.tick_all(heard)[0]);
    assert!(falls[0] > 7500 && falls[159] < -7500 && falls[80].abs() < 300, "{falls:?}");
    assert_eq!(bench.tick_all(heard)[0].payload, [other; 160]);
    bench.port.stop_play(&mut bench.events);
    let rises = pcma_samples(&bench.tick_all(heard)[0]);
    assert!(rises[0] < -7500 && rises[159] > 7500, "{rises:?}");
    assert_eq!(bench.tick_all(heard)[0].payload, [loud; 160]);
}

#[test]
fn a_prompt_that_is_stopped_dies_away_and_begins_at_once() {
    let mut bench = Bench::new(connection());
    let loud = Law::A.encode(8000);
    bench.play(1, &[&[loud; 400]], true);
    assert_eq!(bench.tick().unwrap().payload, [loud; 160]);
    bench.port.stop_play(&mut bench.events);
    let falls = pcma_samples(&bench.tick().unwrap());
    assert!(falls[0] > 7500 && falls[159].abs() < 200, "{falls:?}");
    assert_eq!(bench.tick().unwrap().payload, [Law::A.silence(); 160]);
}
