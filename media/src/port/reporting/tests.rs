use std::time::Duration;

use super::super::{Port, StreamStart};
use super::*;
use crate::codec::Codec;
use crate::event::{Detect, Event, PortId};
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber};
use crate::simulator::Network;
use crate::sound::Sound;

const MS: Duration = Duration::from_millis(1);

/// Two ports with a network between them, the caller's on the left.
struct Pair {
    ports: [Port; 2],
    addresses: [SocketAddr; 2],
    one_way: Duration,
    /// What is under way: when it arrives, at which end, over which socket, and its octets.
    under_way: Vec<(Now, usize, Channel, Vec<u8>)>,
    reports: [u32; 2],
    events: Vec<Event>,
    round: u64,
}

impl Pair {
    fn new(rtcp: [Rtcp; 2], one_way: Duration) -> Self {
        let addresses = [4000, 5000].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let ports = [0, 1].map(|side| {
            let number = side as u64;
            let start = StreamStart {
                ssrc: Ssrc(side as u32 + 1),
                sequence: SequenceNumber(0),
                timestamp: RtpTimestamp(0),
            };
            let random = [side as u8 + 1; 12];
            let reports = ReportStart { random, behind_1900: Duration::from_secs(number << 20) };
            let mut port = Port::new(PortId(number), start, reports);
            port.connect(connection(addresses[1 - side], rtcp[side]), Now::ZERO);
            port
        });
        Self {
            ports,
            addresses,
            one_way,
            under_way: Vec::new(),
            reports: [0; 2],
            events: Vec::new(),
            round: 0,
        }
    }

    fn now(&self) -> Now {
        20 * MS * self.round as u32
    }

    /// Runs so many rounds; packets of media whose number `is_lost` says do not arrive.
    fn run(&mut self, rounds: u64, is_lost: impl Fn(usize, usize) -> bool) {
        for count in 0..rounds as usize {
            let now = self.now();
            for (_, side, channel, octets) in self.under_way.extract_if(.., |item| item.0 <= now) {
                let port = &mut self.ports[side];
                let mut from = self.addresses[1 - side];
                if channel == Channel::Reports {
                    from.set_port(from.port() + 1);
                    assert!(port.receive_report(&octets, from, now));
                } else {
                    assert!(port.receive(&octets, from, now, &mut self.events));
                }
            }
            for side in 0..2 {
                let mut out = Outbox::new(1);
                self.ports[side].tick_receive(self.round, now, &mut self.events);
                let sound = &mut Sound::default();
                self.ports[side].tick_send(self.round, now, sound, &mut out, &mut self.events);
                for (packet, octets) in out.packets() {
                    let is_report = rtcp::is_rtcp(octets);
                    self.reports[side] += u32::from(is_report);
                    if is_report || !is_lost(side, count) {
                        let arrival = now + self.one_way;
                        let item = (arrival, 1 - side, packet.channel, octets.to_vec());
                        self.under_way.push(item);
                    }
                }
            }
            self.round += 1;
        }
    }
}

fn connection(remote: SocketAddr, rtcp: Rtcp) -> Connection {
    Connection {
        remote,
        codec: Codec::Pcma,
        payload_type: Pt(8),
        digit_pt: Some(Pt(101)),
        heard_as: None,
        packet_time_ms: 20,
        send: true,
        receive: true,
        media_timeout_ms: 10_000,
        rtcp,
        security: None,
        detect: Detect::default(),
    }
}

#[test]
fn a_call_ends_with_its_figures() {
    for rtcp in [[Rtcp::Port(5001), Rtcp::Port(4001)], [Rtcp::Shared; 2]] {
        let mut pair = Pair::new(rtcp, 40 * MS);
        let network = Network { loss: 0.03, burst: 1.5, ..Network::default() };
        let lost = network.carry(1500, 20 * MS).lost;
        pair.run(1500, |side, index| side == 0 && lost.contains(&index));
        pair.run(600, |_, _| false);
        let [left, right] = [0, 1].map(|side| pair.ports[side].figures());
        assert_eq!(right.packets_lost, lost.len() as u64);
        assert_eq!(left.far_packets_lost, Some(right.packets_lost), "the other end says so");
        assert_eq!(right.far_packets_lost, Some(0));
        for figures in [&left, &right] {
            let round_trip_ms = figures.round_trip_ms.unwrap();
            // The path takes 80 ms; a report may wait for a tick at each end.
            assert!((79.0..121.0).contains(&round_trip_ms), "{round_trip_ms}");
            assert_eq!((figures.packets_invalid, figures.codec), (0, Some(Codec::Pcma)));
        }
        let (clear, spoilt) = (left.mos.unwrap(), right.mos.unwrap());
        assert!((4.3..4.42).contains(&clear), "{clear}");
        assert!((3.9..4.3).contains(&spoilt), "{spoilt}");
        assert!(right.worst_mos.unwrap() < spoilt && left.worst_mos.unwrap() > 4.3);
        // 42 s are about ten reports.
        assert!(pair.reports.iter().all(|count| (7..=20).contains(count)), "{:?}", pair.reports);
    }
}

#[test]
fn without_rtcp_nothing_is_reported_and_the_score_stands_on_what_is_received() {
    let mut pair = Pair::new([Rtcp::None, Rtcp::None], 10 * MS);
    pair.run(600, |_, _| false);
    let figures = pair.ports[0].figures();
    assert_eq!(
        (pair.reports, figures.round_trip_ms, figures.far_packets_lost),
        ([0; 2], None, None)
    );
    assert!(figures.mos.unwrap() > 4.3);
}

#[test]
fn a_port_that_closes_says_goodbye() {
    let mut pair = Pair::new([Rtcp::Port(5001), Rtcp::Port(4001)], MS);
    pair.run(10, |_, _| false);
    let mut out = Outbox::new(1);
    pair.ports[0].close(pair.now(), &mut out);
    let [(packet, octets)] = out.packets().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((packet.channel, packet.to.port()), (Channel::Reports, 5001));
    let ends = rtcp::parse(octets).unwrap().last().unwrap();
    assert_eq!(ends, rtcp::Packet::Goodbye { ssrc: Some(Ssrc(1)) });
}

#[test]
fn reports_keep_a_silent_far_end_alive_and_goodbyes_do_not() {
    let from = SocketAddr::from(([192, 0, 2, 1], 5001));
    let receiver_report = [0x80, 201, 0, 1, 0, 0, 0, 2];
    let goodbye = [0x81, 203, 0, 1, 0, 0, 0, 2];
    for (datagram, timed_out) in [(receiver_report, false), (goodbye, true)] {
        let mut pair = Pair::new([Rtcp::Port(5001), Rtcp::Port(4001)], MS);
        let port = &mut pair.ports[0];
        let mut events = Vec::new();
        for round in 0..1500u64 {
            let now = 20 * MS * round as u32;
            if round % 250 == 0 {
                assert!(port.receive_report(&datagram, from, now));
            }
            port.tick_receive(round, now, &mut events);
        }
        assert_eq!(events.contains(&Event::MediaTimedOut(PortId(0))), timed_out);
    }
}

#[test]
fn reports_are_believed_of_the_negotiated_address_alone() {
    let mut pair = Pair::new([Rtcp::Port(5001), Rtcp::Port(4001)], MS);
    let port = &mut pair.ports[0];
    let report = [0x80, 201, 0, 1, 0, 0, 0, 2];
    let stranger = SocketAddr::from(([192, 0, 2, 66], 5001));
    let far = SocketAddr::from(([192, 0, 2, 1], 5001));
    let moved = SocketAddr::from(([192, 0, 2, 1], 6001));
    assert!(!port.receive_report(&report, stranger, MS));
    assert!(port.receive_report(&report, far, MS));
    assert!(!port.receive_report(&report, moved, MS), "another port of the same address");
    assert!(!port.receive_report(b"\x80\xc9 no report", far, MS));
    assert_eq!(port.figures().packets_invalid, 3);
}

/// Packets of one source from one address of the far end.
fn media(port: &mut Port, from: SocketAddr, ssrc: u32, index: u16, now: Now) -> bool {
    let packet = Packet {
        marker: false,
        pt: Pt(8),
        sequence: SequenceNumber(index),
        timestamp: RtpTimestamp(u32::from(index) * 160),
        ssrc: Ssrc(ssrc),
        payload: &[1; 160],
    };
    let mut out = [0; 200];
    let len = packet.write(&mut out);
    port.receive(&out[..len], from, now, &mut Vec::new())
}

#[test]
fn no_other_address_and_no_stray_stream_captures_a_call() {
    let mut pair = Pair::new([Rtcp::None, Rtcp::None], MS);
    let port = &mut pair.ports[0];
    let at = |last, number| SocketAddr::from(([192, 0, 2, last], number));
    let (negotiated, rebound, stray, stranger) =
        (at(1, 5000), at(1, 6000), at(1, 7000), at(9, 5000));
    assert!(!media(port, stranger, 5, 0, MS), "even before anything else came");
    assert!(media(port, rebound, 2, 0, MS), "behind a NAT");
    assert_eq!(port.destination(), Some(rebound));
    for step in 1..200u16 {
        let now = 20 * MS * u32::from(step);
        assert!(media(port, rebound, 2, step, now));
        assert!(!media(port, stray, 3, step, now + MS));
        assert!(!media(port, stranger, 2, step, now + 2 * MS));
    }
    let last = 20 * MS * 199;
    assert!(!media(port, stray, 3, 200, last + 900 * MS), "another source waits a second");
    assert!(!media(port, stranger, 3, 200, last + 60_000 * MS), "another address for ever");
    assert!(media(port, stray, 2, 200, last + 250 * MS), "the same one was given another port");
    assert!(media(port, negotiated, 4, 0, last + 260 * MS), "what was negotiated always goes");
    assert_eq!(port.destination(), Some(negotiated));
    assert!(media(port, stray, 3, 0, last + 1270 * MS));
}
