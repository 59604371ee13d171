//! What one packet costs apart from its system calls.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use _media::event::{Connection, PlayId, PortId};
use _media::g711::{FRAME_SAMPLES, Law};
use _media::player::Clip;
use _media::port::{MAX_PACKET_LEN, Port, StreamStart};
use _media::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};
use criterion::{Criterion, criterion_group, criterion_main};

fn far_end() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000))
}

fn port() -> Port {
    let start =
        StreamStart { ssrc: Ssrc(1), sequence: SequenceNumber(0), timestamp: RtpTimestamp(0) };
    let mut port = Port::new(PortId(1), start);
    let connection = Connection {
        remote: far_end(),
        law: Law::A,
        digit_pt: Some(Pt(101)),
        frames_per_packet: 1,
        send: true,
        receive: true,
        media_timeout_ms: 0,
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

fn packets(criterion: &mut Criterion) {
    let mut events = Vec::new();
    let mut out = [0; MAX_PACKET_LEN];

    let mut playing = port();
    playing.play(PlayId(1), true);
    let clips = Ok(vec![Clip::from(&[1; 8000][..])]);
    playing.loaded(PlayId(1), Law::A, clips, &mut events);
    let mut round = 0;
    criterion.bench_function("send prompt", |bench| {
        bench.iter(|| {
            round += 1;
            black_box(playing.tick_send(round, None, &mut out, &mut events))
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

    let mut bridged = port();
    bridged.add_listener();
    let mut index = 0;
    criterion.bench_function("receive, buffer, read and send transcoded", |bench| {
        bench.iter(|| {
            index += 1;
            let now = Duration::from_millis(20) * index;
            bridged.receive(&datagram(index), far_end(), now, &mut events);
            bridged.tick_receive(index.into(), now, &mut events);
            let heard = bridged.heard(index.into()).map(|(_, frame)| (Law::Mu, *frame));
            black_box(bridged.tick_send(index.into(), heard, &mut out, &mut events))
        });
    });
}

criterion_group!(benches, packets);
criterion_main!(benches);
