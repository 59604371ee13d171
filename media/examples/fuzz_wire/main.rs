//! Feeds ports, RTCP sessions, the STUN parser and secure media with spoilt datagrams.
//!
//! `cargo run --release --no-default-features --example fuzz_wire -- COUNT [SEED]`
//!
//! A corpus of valid RTP, RTCP and STUN is mutated from a seed: bits, octets, lengths, cuts,
//! growth, and pieces of one datagram in another. A panic ends the run with the seed and number of
//! the datagram, which name it for ever. The longest time for one datagram is told. Of secure media
//! it is also asked that whole packets pass, that spoilt ones do not, and that no stranger is sent
//! anything.

use std::error::Error;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use _media::codec::Codec;
use _media::event::{Connection, PortId, Rtcp};
use _media::outbox::Outbox;
use _media::port::{Port, ReportStart, StreamStart};
use _media::rtcp;
use _media::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use _media::secure::stun;
use _media::sound::Sound;

mod secure;
mod spoilt;

use secure::Secure;
use spoilt::{MAX_DATAGRAM, Random, mutated, with_fingerprint};

/// Datagrams between two ticks of the ports.
const PER_TICK: u64 = 4;

/// Datagrams after which ports and what they know begin anew.
const PER_CALL: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().ok_or("usage: fuzz_wire COUNT [SEED]")?.parse()?;
    let seed: u64 = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    let corpus = corpus();
    let mut ports = Vec::new();
    let mut secure = Secure::new()?;
    let (mut accepted, mut slowest) = (0u64, (Duration::ZERO, 0));
    for number in 0..count {
        if number.is_multiple_of(PER_CALL) {
            ports = Codec::ALL.map(port).into();
            secure.begin(number);
        }
        // Each datagram has its own seed, so that it can be made again alone.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        let datagram = mutated(&corpus, &mut random);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            secure.offer(&corpus, &mut random, number);
            let started = Instant::now();
            (offer(&mut ports, &datagram, number), started.elapsed())
        }));
        let (taken, took) =
            outcome.map_err(|_| format!("seed {seed}, datagram {number}: {datagram:02x?}"))?;
        accepted += taken;
        if took > slowest.0 {
            slowest = (took, number);
        }
    }
    println!(
        "{count} datagrams, seed {seed}: {accepted} accepted by a port, no panic; the slowest, \
         number {}, took {:?}",
        slowest.1, slowest.0
    );
    Ok(())
}

fn far_end() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}

/// A port whose audio somebody hears.
fn port(codec: Codec) -> Port {
    let stream =
        StreamStart { ssrc: Ssrc(1), sequence: SequenceNumber(0), timestamp: RtpTimestamp(0) };
    let reports = ReportStart { random: [3; 12], behind_1900: Duration::ZERO };
    let mut port = Port::new(PortId(1), stream, reports);
    let pt = codec.static_pt().unwrap_or(Pt(111));
    let connection = Connection {
        digit_pt: Some(Pt(101)),
        rtcp: Rtcp::Shared,
        ..Connection::new(far_end(), codec, pt)
    };
    port.connect(connection, Duration::ZERO);
    port.set_listeners(1);
    port
}

/// Gives a datagram to everything that reads datagrams; returns how many ports took it.
fn offer(ports: &mut [Port], datagram: &[u8], number: u64) -> u64 {
    let now = Duration::from_millis(number * 20 / PER_TICK);
    let round = number / PER_TICK;
    let mut events = Vec::new();
    let mut accepted = 0;
    for port in ports {
        accepted += u64::from(port.receive(datagram, far_end(), now, &mut events));
        if number.is_multiple_of(PER_TICK) {
            port.tick_receive(round, now, &mut events);
            black_box(port.pcm(round));
            let mut out = Outbox::new(1);
            port.tick_send(round, now, &mut Sound::default(), &mut out, &mut events);
        }
    }
    if let Ok(packets) = rtcp::parse(datagram) {
        black_box(packets.flat_map(|packet| packet.blocks().collect::<Vec<_>>()).count());
    }
    if let Ok(stun::Message::Request(request)) = stun::Message::parse(&with_fingerprint(datagram)) {
        black_box(request.is_authentic(b"a password of ours"));
    }
    accepted
}

/// Valid datagrams.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for (pt, payload) in [
        (8, vec![0x55; 160]),
        (0, vec![0x7f; 240]),
        (9, vec![0x11; 160]),
        (18, vec![0x22; 22]),
        (111, [&[0xf8][..], &[7; 60]].concat()),
        (111, vec![0xff, 0x82, 3, 1, 2, 3, 4, 5]),
        (101, vec![5, 0x8a, 3, 0x20]),
        (13, vec![60, 1, 2, 3]),
    ] {
        let packet = Packet {
            marker: false,
            pt: Pt(pt),
            sequence: SequenceNumber(7),
            timestamp: RtpTimestamp(1120),
            ssrc: Ssrc(2),
            payload: &payload,
        };
        let mut out = vec![0; MAX_DATAGRAM];
        let len = packet.write(&mut out);
        out.truncate(len);
        corpus.push(out);
    }
    let block = rtcp::ReportBlock {
        ssrc: Ssrc(1),
        fraction_lost: 9,
        lost: 30,
        highest: 70_000,
        jitter: 40,
        last_sr: 0x1234_5678,
        delay_since_last_sr: 65_536,
    };
    let sender = rtcp::SenderInfo {
        ntp: rtcp::NtpTime(0xe123_4567_89ab_cdef),
        timestamp: RtpTimestamp(160),
        packets: 50,
        octets: 8000,
    };
    for (sender, goodbye) in [(Some(sender), false), (None, true)] {
        let mut out = [0; rtcp::MAX_LEN];
        let cname = "AbCdEfGhIjKlMnOp";
        let compound = rtcp::Compound { ssrc: Ssrc(2), sender, block: Some(block), cname, goodbye };
        let len = compound.write(&mut out);
        corpus.push(out[..len].to_vec());
    }
    // A binding request with a user name, RFC 8489.
    let mut stun = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([9; 12]);
    stun.extend([0, 6, 0, 7]);
    stun.extend(b"us:them\0");
    corpus.push(stun);
    corpus
}
