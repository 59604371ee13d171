//! What one packet costs apart from its system calls.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use _media::clock;
use _media::codec::{Codec, Encoded, Pcm};
use _media::event::{Connection, Detect, PlayId, PortId, Rtcp};
use _media::g711::{FRAME_SAMPLES, Law};
use _media::matrix::Hearing;
use _media::mixer::{self, Sources};
use _media::outbox::Outbox;
use _media::player::Clips;
use _media::port::{Port, ReportStart, StreamStart};
use _media::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use _media::socket::RtpSocket;
use _media::sound::Sound;
use criterion::{Criterion, criterion_group, criterion_main};

fn far_end() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000))
}

fn port() -> Port {
    let start =
        StreamStart { ssrc: Ssrc(1), sequence: SequenceNumber(0), timestamp: RtpTimestamp(0) };
    let reports = ReportStart { random: [1; 12], behind_1900: Duration::ZERO };
    let mut port = Port::new(PortId(1), start, reports);
    let connection = Connection {
        remote: far_end(),
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
    };
    port.connect(connection, Duration::ZERO);
    port
}

fn datagram(index: u32) -> [u8; 172] {
    let mut out = [0; 172];
    let packet = Packet {
        marker: false,
        pt: Pt(8),
        sequence: SequenceNumber(index as u16),
        timestamp: RtpTimestamp(index.wrapping_mul(160)),
        ssrc: Ssrc(2),
        payload: &[0x55; FRAME_SAMPLES],
    };
    packet.write(&mut out);
    out
}

/// Everybody talks.
struct Talkers(Vec<Pcm>);

impl Sources for Talkers {
    fn encoded(&self, _source: usize, _round: u64) -> Option<&Encoded> {
        None
    }

    fn pcm(&mut self, source: usize, _round: u64) -> Option<&Pcm> {
        self.0.get(source)
    }
}

fn conference(criterion: &mut Criterion) {
    const PARTIES: usize = 32;
    let mut talkers = Talkers((0..PARTIES as i16).map(|level| [level * 100; 160]).collect());
    let mut sound = Sound::default();
    let others: Vec<Vec<usize>> =
        (0..PARTIES).map(|party| (0..PARTIES).filter(|other| *other != party).collect()).collect();
    criterion.bench_function("mix 32 parties, each the sum of the others", |bench| {
        bench.iter(|| {
            for sources in &others {
                let hearing = Hearing { sources, ..Hearing::default() };
                mixer::hear(hearing, Codec::Pcma, 0, &mut talkers, &mut sound);
                black_box(sound.pcm());
            }
        });
    });
}

fn packets(criterion: &mut Criterion) {
    let mut events = Vec::new();
    let mut out = Outbox::new(1);
    let mut sound = Sound::default();

    let mut playing = port();
    playing.play(PlayId(1), true);
    let clips = Clips::Law(Law::A, vec![[1; 8000].into()]);
    playing.loaded(PlayId(1), Ok(clips), &mut events);
    let mut round = 0;
    criterion.bench_function("send prompt", |bench| {
        bench.iter(|| {
            round += 1;
            out.clear();
            playing.tick_send(round, Duration::ZERO, &mut sound, &mut out, &mut events);
            black_box(out.packets().count())
        });
    });

    let mut receiving = port();
    let mut index = 0;
    criterion.bench_function("receive unheard", |bench| {
        bench.iter(|| {
            index += 1;
            let now = Duration::from_millis(20) * index;
            black_box(receiving.receive(&datagram(index), far_end(), now, &mut events))
        });
    });

    let mut routed = port();
    routed.set_listeners(1);
    let mut index = 0;
    criterion.bench_function("receive, buffer, decode, encode and send", |bench| {
        bench.iter(|| {
            index += 1;
            let now = Duration::from_millis(20) * index;
            routed.receive(&datagram(index), far_end(), now, &mut events);
            routed.tick_receive(index.into(), now, &mut events);
            sound.clear();
            if let Some(pcm) = routed.pcm(index.into()) {
                *sound.start_pcm() = *pcm;
            }
            out.clear();
            routed.tick_send(index.into(), Duration::ZERO, &mut sound, &mut out, &mut events);
            black_box(out.packets().count())
        });
    });
}

/// A port with its system calls beside the bare ones, in turns; what docs/benchmarks.md calls the
/// ratio is measured with thousands of sockets by `examples/rtp_load.rs`.
fn beside_bare_calls(_criterion: &mut Criterion) {
    const PACKETS: u32 = 500;
    const TURNS: u32 = 200;
    let [(mut near, near_address), (mut far, far_address)] = [bound(), bound()];
    let mut port = port();
    let (mut events, mut out, mut sound) = (Vec::new(), Outbox::new(1), Sound::default());
    let mut buffer = [0; 1500];
    let mut ratios = Vec::new();
    for turn in 0..TURNS {
        let started = clock::thread_cpu();
        for _ in 0..PACKETS {
            far.send(&datagram(0), &near_address).expect("loopback");
            black_box(near.receive(&mut buffer).expect("just sent"));
        }
        let bare = clock::thread_cpu() - started;
        let started = clock::thread_cpu();
        for index in turn * PACKETS..(turn + 1) * PACKETS {
            let now = Duration::from_millis(20) * index;
            far.send(&datagram(index), &near_address).expect("loopback");
            let (len, _) = near.receive(&mut buffer).expect("just sent");
            port.receive(&buffer[..len], far_end(), now, &mut events);
            port.tick_receive(index.into(), now, &mut events);
            out.clear();
            port.tick_send(index.into(), Duration::ZERO, &mut sound, &mut out, &mut events);
            black_box(out.packets().count());
        }
        let whole = clock::thread_cpu() - started;
        ratios.push(whole.as_secs_f64() / bare.as_secs_f64());
    }
    assert_ne!(near_address, far_address);
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("a packet sent, received, handled and answered, to the bare calls: {median:.2}");
}

/// A socket on loopback.
fn bound() -> (RtpSocket, SocketAddr) {
    let addresses = (41_000..42_000).map(|number| SocketAddr::from(([127, 0, 0, 1], number)));
    let bound = addresses.filter_map(|at| RtpSocket::bind(at).ok().map(|socket| (socket, at)));
    bound.into_iter().next().expect("a free number")
}

criterion_group!(benches, conference, packets, beside_bare_calls);
criterion_main!(benches);
