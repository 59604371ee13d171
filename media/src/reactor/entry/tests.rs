//! How a socket is read, on rounds of our own and real sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rustix::event::epoll;

use super::*;
use crate::codec::Codec;
use crate::event::{Detect, PortId, Rtcp};
use crate::port::{ReportStart, StreamStart};
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use crate::socket::RtpSocket;

const FRAME: Duration = Duration::from_millis(20);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port, the far end it talks to, and the rounds that have passed.
struct Bench {
    entry: Entry,
    far: RtpSocket,
    epoll: OwnedFd,
    identity: Identity,
    round: u64,
    sent: u16,
    /// The thread is behind its slots.
    is_behind: bool,
}

/// A socket on a number that it keeps when it is tied and freed.
fn bound() -> RtpSocket {
    let mut numbers = 43_000..44_000;
    numbers.find_map(|port| RtpSocket::bind(SocketAddr::new(LOCALHOST, port)).ok()).unwrap()
}

fn address(socket: &RtpSocket) -> SocketAddr {
    SocketAddr::new(LOCALHOST, socket.port())
}

impl Bench {
    fn new() -> Self {
        let stream =
            StreamStart { ssrc: Ssrc(1), sequence: SequenceNumber(0), timestamp: RtpTimestamp(0) };
        let reports = ReportStart { random: [7; 12], behind_1900: Duration::ZERO };
        let port = Port::new(PortId(0), stream, reports);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let sockets = PortSockets { media: bound(), reports: bound() };
        assert!(watch(&epoll, &sockets.media, 0));
        let entry = Entry::new(port, sockets, 0, true);
        let identity = Identity::generate().unwrap();
        let mut bench =
            Self { entry, far: bound(), epoll, identity, round: 0, sent: 0, is_behind: false };
        let connection = Connection {
            remote: address(&bench.far),
            codec: Codec::Pcma,
            payload_type: Pt(8),
            digit_pt: None,
            heard_as: None,
            packet_time_ms: 20,
            send: true,
            receive: true,
            media_timeout_ms: 0,
            security: None,
            detect: Detect::default(),
            rtcp: Rtcp::None,
        };
        bench.entry.connect(connection, &bench.identity, Now::ZERO, &mut Vec::new());
        bench
    }

    /// A round in which the far end sends `count` packets, read as they would be.
    fn round(&mut self, count: u16) {
        self.round += 1;
        let now = FRAME * self.round as u32;
        for _ in 0..count {
            let packet = Packet {
                marker: false,
                pt: Pt(8),
                sequence: SequenceNumber(self.sent),
                timestamp: RtpTimestamp(u32::from(self.sent) * 160),
                ssrc: Ssrc(9),
                payload: &[0xd5; 160],
            };
            self.sent = self.sent.wrapping_add(1);
            let mut octets = [0; 172];
            let len = packet.write(&mut octets);
            self.far.send(&octets[..len], &address(&self.entry.sockets.media)).unwrap();
        }
        let mut buffer = [0; 1500];
        let mut found = 0;
        while let Ok((len, from)) = self.entry.sockets.media.receive(&mut buffer) {
            self.entry.port.set_prompt(self.entry.is_watched());
            let at = if self.entry.is_watched() { now - FRAME / 4 } else { now };
            let taken = self.entry.receive(&mut buffer[..len], from, at, &mut Vec::new());
            assert_eq!(taken, Taken::Media);
            found += 1;
        }
        assert_eq!(found, usize::from(count));
        if !self.entry.is_watched() {
            self.entry.found_at_tick(found, true);
        }
        self.entry.tick_receive(self.round, now, self.is_behind, &mut Vec::new());
        self.entry.settle_reading(&self.epoll, 0);
    }

    /// Lets packets come evenly until the socket is left to its ticks, or for ten seconds.
    fn calm_down(&mut self) {
        for _ in 0..500 {
            self.round(1);
            if !self.entry.is_watched() {
                return;
            }
        }
        panic!("the stream was never calm");
    }

    /// Whether epoll tells of a packet.
    fn is_told(&mut self) -> bool {
        let to = address(&self.entry.sockets.media);
        self.far.send(&[0x80; 12], &to).unwrap();
        let mut ready = Vec::with_capacity(1);
        let spare = rustix::buffer::spare_capacity(&mut ready);
        let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.epoll, spare, Some(&at_once)).unwrap();
        let mut buffer = [0; 1500];
        while self.entry.sockets.media.receive(&mut buffer).is_ok() {}
        !ready.is_empty()
    }
}

#[test]
fn an_even_stream_is_left_to_the_ticks_and_watched_now_and_then() {
    for listeners in [0, 1] {
        let mut bench = Bench::new();
        bench.entry.port.set_listeners(listeners);
        assert!(bench.is_told());
        bench.calm_down();
        assert!(!bench.is_told());
        for _ in 0..YOUNG_ROUNDS {
            bench.round(1);
        }
        let rounds = LOOK_EVERY_ROUNDS * WATCHED_ONE_LOOK_IN;
        let watched = (0..rounds).filter(|_| {
            bench.round(1);
            bench.entry.is_watched()
        });
        assert_eq!(watched.count() as u64, LOOK_EVERY_ROUNDS, "{listeners} listeners");
        assert_eq!(bench.entry.port.figures().packets_received, u64::from(bench.sent));
    }
}

#[test]
fn a_call_of_seconds_is_tied_at_once_and_watched_for_one_of_them() {
    for listeners in [0, 1] {
        let mut bench = Bench::new();
        bench.entry.port.set_listeners(listeners);
        while bench.entry.sockets.media.tied_to().is_none() {
            bench.round(1);
        }
        assert!(bench.round <= YOUNG_LOOK_EVERY_ROUNDS);
        bench.calm_down();
        let most = MEASURED_ROUNDS + 2 * YOUNG_LOOK_EVERY_ROUNDS;
        assert!((MEASURED_ROUNDS..=most).contains(&bench.round), "{} rounds", bench.round);
    }
}

#[test]
fn after_a_tick_that_found_one_datagram_the_next_looks_for_no_second() {
    let mut bench = Bench::new();
    bench.calm_down();
    bench.round(1);
    let looks = (0..100).filter(|round| !bench.entry.reads_one(*round));
    assert_eq!(looks.count(), 20, "but for one tick in five");
    let round = (0..).find(|round| bench.entry.reads_one(*round)).unwrap();
    for found in [0, 2] {
        bench.round(found);
        assert!(!bench.entry.reads_one(round));
    }
}

#[test]
fn a_stream_that_is_listened_to_is_watched_when_it_becomes_uneven() {
    for counts in [&[0, 0][..], &[2, 2], &[3], &[0, 1, 0], &[0, 2, 2, 2]] {
        let mut bench = Bench::new();
        bench.entry.port.set_listeners(1);
        bench.calm_down();
        let (last, first) = counts.split_last().unwrap();
        for count in first {
            bench.round(*count);
            assert!(!bench.entry.is_watched(), "too early in {counts:?}");
        }
        bench.round(*last);
        assert!(bench.entry.is_watched(), "after {counts:?}");
        assert!(bench.is_told());
    }
}

#[test]
fn a_packet_may_fall_on_either_side_of_a_tick() {
    for counts in [[0, 2], [2, 0]] {
        let mut bench = Bench::new();
        bench.entry.port.set_listeners(1);
        bench.calm_down();
        for count in counts.repeat(20) {
            bench.round(count);
            assert!(!bench.entry.is_watched(), "{counts:?}");
            assert!(bench.entry.port.encoded(bench.round).is_some(), "a frame was lost");
        }
    }
    // Nobody would hear more than that.
    let mut bench = Bench::new();
    bench.calm_down();
    for count in [0, 2, 0, 0, 3, 1] {
        bench.round(count);
        assert!(!bench.entry.is_watched(), "without a listener");
    }
}

#[test]
fn nothing_is_watched_while_the_thread_is_behind() {
    let mut bench = Bench::new();
    bench.entry.port.set_listeners(1);
    bench.is_behind = true;
    bench.calm_down();
    let rounds = LOOK_EVERY_ROUNDS * WATCHED_ONE_LOOK_IN;
    for _ in 0..rounds {
        bench.round(1);
        assert!(!bench.entry.is_watched());
    }
    bench.is_behind = false;
    for _ in 0..rounds {
        bench.round(1);
    }
    let is_watched = |bench: &mut Bench| {
        bench.round(1);
        bench.entry.is_watched()
    };
    assert!((0..rounds).any(|_| is_watched(&mut bench)), "looked at again");
}

#[test]
fn a_stream_that_ends_is_waited_for_again() {
    let mut bench = Bench::new();
    bench.calm_down();
    for _ in 0..15 {
        bench.round(0);
    }
    assert!(bench.entry.is_watched());
    assert_eq!(bench.entry.sockets.media.tied_to(), None);
    assert!(bench.is_told());
}

#[test]
fn jitter_is_what_was_seen_while_the_socket_was_watched() {
    let mut bench = Bench::new();
    bench.calm_down();
    let before = bench.entry.port.figures().jitter_ms;
    // All is read at one point of the round now, whenever it came.
    for _ in 0..40 {
        bench.round(1);
    }
    assert!((bench.entry.port.figures().jitter_ms - before).abs() < f64::EPSILON);
}
