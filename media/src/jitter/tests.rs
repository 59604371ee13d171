use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::simulator::{Network, Random};

const FRAME: Duration = Duration::from_millis(20);

/// A buffer that is written and read on virtual time.
struct Bench {
    buffer: JitterBuffer,
    reads: u32,
}

impl Bench {
    fn new(codec: Codec) -> Self {
        Self { buffer: JitterBuffer::new(codec), reads: 0 }
    }

    /// Writes the packet of 20 ms number `index`, every octet of which names it.
    fn write(&mut self, index: u32) {
        self.write_as(index, Order::Newest);
    }

    fn write_as(&mut self, index: u32, order: Order) {
        let at = RtpTimestamp(index.wrapping_mul(160));
        let now = FRAME * self.reads + FRAME / 2;
        self.buffer.write(at, &[(index % 200) as u8 + 1; 160], order, now);
    }

    fn read(&mut self) -> Result<u8, Read> {
        let mut out = [0; MAX_FRAME_LEN];
        self.reads += 1;
        match self.buffer.read(&mut out, FRAME * self.reads) {
            Read::Audio(_) => Ok(out[0]),
            other => Err(other),
        }
    }

    fn reads(&mut self, count: usize) -> Vec<Result<u8, Read>> {
        (0..count).map(|_| self.read()).collect()
    }
}

#[test]
fn audio_waits_for_one_frame() {
    let mut bench = Bench::new(Codec::Pcma);
    assert_eq!(bench.read(), Err(Read::Nothing));
    bench.write(0);
    assert_eq!(bench.read(), Err(Read::Nothing));
    bench.write(1);
    assert_eq!(bench.read(), Ok(1));
    bench.write(2);
    assert_eq!(bench.read(), Ok(2));
}

#[test]
fn reordering_does_not_show() {
    let mut bench = Bench::new(Codec::Pcma);
    bench.write(0);
    bench.write(2);
    bench.write_as(1, Order::Overtaken);
    assert_eq!(bench.reads(4), [Err(Read::Nothing), Ok(1), Ok(2), Ok(3)]);
}

#[test]
fn a_lost_packet_is_concealed_and_the_next_one_plays_in_time() {
    let mut bench = Bench::new(Codec::Pcma);
    for index in [0, 1, 3, 4] {
        bench.write(index);
    }
    bench.reads(1);
    assert_eq!(bench.reads(5), [Ok(1), Ok(2), Err(Read::Lost), Ok(4), Ok(5)]);
}

#[test]
fn a_late_packet_is_played_late_and_nothing_after_it_is_lost() {
    let mut bench = Bench::new(Codec::Pcma);
    bench.write(0);
    assert_eq!(bench.reads(4), [Err(Read::Nothing), Ok(1), Err(Read::Lost), Err(Read::Lost)]);
    for index in 1..4 {
        bench.write(index); // comes 40 ms late
    }
    assert_eq!(bench.reads(3), [Ok(2), Ok(3), Ok(4)]);
    let figures = bench.buffer.figures();
    assert_eq!((figures.raised, figures.concealed, figures.discarded), (2, 2, 0));
}

#[test]
fn a_packet_overtaken_by_what_was_played_is_too_late() {
    let mut bench = Bench::new(Codec::Pcma);
    for index in [0, 2] {
        bench.write(index);
    }
    bench.reads(4);
    bench.write_as(1, Order::Overtaken);
    assert_eq!(bench.buffer.figures().discarded, 1);
    bench.write(3);
    assert_eq!(bench.read(), Ok(4));
}

#[test]
fn much_reordering_makes_the_buffer_wait_for_it() {
    let mut bench = Bench::new(Codec::Pcma);
    // Of every ten packets one comes 60 ms after its time.
    let mut discarded = Vec::new();
    for index in 0..2000u32 {
        if index % 10 != 5 {
            bench.write(index);
        }
        if index % 10 == 8 {
            bench.write_as(index - 3, Order::Overtaken);
        }
        bench.read().ok();
        if index % 500 == 499 {
            discarded.push(bench.buffer.figures().discarded);
        }
    }
    assert!(discarded[0] < 10, "{discarded:?}");
    assert_eq!(discarded[3], discarded[0], "after that none is too late");
    assert_eq!(bench.buffer.figures().raised, 2);
}

#[test]
fn packets_of_10_to_60_ms_play_without_gaps() {
    for codec in [Codec::Pcma, Codec::G729] {
        for packet_ticks in [80u32, 160, 240, 320, 400, 480] {
            let mut bench = Bench::new(codec);
            let octets = if codec == Codec::G729 { packet_ticks / 8 } else { packet_ticks };
            let (mut written, mut missing, mut played) = (0, 0, 0);
            for tick in 0..500u32 {
                while (written + 1) * packet_ticks <= tick * 160 {
                    let at = RtpTimestamp(written.wrapping_mul(packet_ticks));
                    let now = FRAME * bench.reads + FRAME / 2;
                    bench.buffer.write(at, &vec![7; octets as usize], Order::Newest, now);
                    written += 1;
                }
                match bench.read() {
                    Ok(octet) => {
                        assert_eq!(octet, 7);
                        played += 1;
                    }
                    Err(_) if played > 0 => missing += 1,
                    Err(_) => {}
                }
            }
            assert_eq!(missing, 0, "packets of {packet_ticks} ticks");
            assert!(played > 490);
        }
    }
}

#[test]
fn a_missing_half_repeats_the_other_one() {
    for (codec, half) in [(Codec::Pcma, 80), (Codec::G729, 10)] {
        let mut bench = Bench::new(codec);
        for index in [0, 1, 2, 5] {
            let payload = vec![index as u8 + 1; half];
            bench.buffer.write(RtpTimestamp(index * 80), &payload, Order::Newest, FRAME);
        }
        let mut out = [0; MAX_FRAME_LEN];
        let frames: Vec<_> = (0..4)
            .map(|_| match bench.buffer.read(&mut out, FRAME) {
                Read::Audio(len) => (len, out[0], out[len - 1]),
                _ => (0, 0, 0),
            })
            .collect();
        assert_eq!(frames, [(0, 0, 0), (2 * half, 1, 2), (2 * half, 3, 3), (2 * half, 6, 6)]);
    }
}

#[test]
fn a_silence_descriptor_of_g729_ends_the_audio() {
    let mut bench = Bench::new(Codec::G729);
    bench.buffer.write(RtpTimestamp(0), &[1; 22], Order::Newest, FRAME);
    bench.buffer.write(RtpTimestamp(240), &[1; 2], Order::Newest, FRAME);
    assert_eq!(bench.reads(2), [Err(Read::Nothing), Ok(1)]);
    assert_eq!(bench.read(), Err(Read::Nothing), "announced, so not concealed");
    assert_eq!(bench.buffer.figures(), JitterFigures::default());
}

#[test]
fn an_announced_pause_is_not_concealed() {
    let mut bench = Bench::new(Codec::Pcmu);
    bench.write(0);
    bench.write(1);
    bench.buffer.silence(RtpTimestamp(320));
    bench.reads(1);
    assert_eq!(bench.reads(3), [Ok(1), Ok(2), Err(Read::Nothing)]);
    bench.reads(20);
    bench.write(24);
    assert_eq!(bench.reads(3), [Err(Read::Nothing), Ok(25), Err(Read::Lost)]);
}

#[test]
fn pauses_neither_raise_the_delay_nor_cost_audio() {
    // With a clock that runs on in pauses, as RFC 3550 asks, and with one that stands still.
    for runs_on in [true, false] {
        let mut bench = Bench::new(Codec::Pcma);
        let (mut index, mut played) = (0, 0);
        for _ in 0..50 {
            for _ in 0..50 {
                bench.write(index);
                index += 1;
                played += u32::from(bench.read().is_ok());
            }
            for _ in 0..37 {
                played += u32::from(bench.read().is_ok());
                index += u32::from(runs_on);
            }
            assert!(bench.buffer.delay_ms() <= 40);
        }
        assert_eq!(played, 2500);
        assert_eq!(bench.buffer.figures().discarded, 0);
    }
}

#[test]
fn a_burst_is_cut_back_to_the_newest_audio() {
    let mut bench = Bench::new(Codec::Pcma);
    for index in 0..40 {
        bench.write(index);
    }
    assert!(bench.buffer.level() <= bench.buffer.frames(MAX_LEVEL_FRAMES));
    assert!(bench.read().unwrap() > 29);
}

#[test]
fn another_time_line_starts_afresh() {
    let mut bench = Bench::new(Codec::Pcma);
    for start in [0u32, 1 << 31, 77, 3_000_000_000] {
        for index in 0..2 {
            let at = RtpTimestamp(start.wrapping_add(index * 160));
            bench.buffer.write(at, &[index as u8 + 1; 160], Order::Newest, FRAME);
        }
        assert_eq!(bench.reads(3)[1..], [Ok(1), Ok(2)]);
    }
}

#[test]
fn after_a_spike_the_delay_falls_again() {
    let mut bench = Bench::new(Codec::Pcma);
    let mut delays = Vec::new();
    for tick in 0..3000u32 {
        // 140 ms of silence of the network once, then all at once.
        match tick {
            500..507 => {}
            507 => (500..=507).for_each(|index| bench.write(index)),
            _ => bench.write(tick),
        }
        bench.read().ok();
        delays.push(bench.buffer.delay_ms());
    }
    assert!(delays[499] <= 40, "{}", delays[499]);
    assert!((140..=200).contains(&delays[700]), "{}", delays[700]);
    assert!(delays[2999] <= 40, "{}", delays[2999]);
    assert_eq!(bench.buffer.figures().raised, bench.buffer.figures().lowered);
    assert_eq!(bench.buffer.figures().discarded, 0);
}

/// What a listener got of a stream that came over a network.
#[derive(Debug, Default)]
struct Heard {
    played: Vec<u32>,
    /// Reads without audio between the first and the last with audio.
    missing: u64,
    max_delay: Duration,
    last_delay: Duration,
    figures: JitterFigures,
}

fn listen(network: &Network, codec: Codec, count: usize) -> Heard {
    let period_s = FRAME.as_secs_f64() / (1.0 + network.skew_ppm * 1e-6);
    let delivery = network.carry(count, FRAME);
    let mut arrivals = delivery.arrivals.iter().peekable();
    let mut buffer = JitterBuffer::new(codec);
    let mut random = Random::new(network.seed);
    let phase = Duration::from_micros(random.below(20_000));
    let first_timestamp = RtpTimestamp(random.next() as u32);
    let mut seen = vec![false; count];
    let mut newest = None;
    let mut heard = Heard::default();
    let mut gap = 0;
    let mut out = [0; MAX_FRAME_LEN];
    let end = Duration::from_secs_f64(period_s * count as f64) + Duration::from_secs(1);
    for tick in 0.. {
        let now = phase + FRAME * tick;
        if now > end {
            break;
        }
        while let Some((at, index)) = arrivals.next_if(|(at, _)| *at <= now) {
            if std::mem::replace(&mut seen[*index], true) {
                continue; // reception keeps duplicates away
            }
            let order = if newest.is_none_or(|newest| newest < *index) {
                newest = Some(*index);
                Order::Newest
            } else {
                Order::Overtaken
            };
            let timestamp = first_timestamp.after((*index as u32) * codec.frame_ticks());
            buffer.write(timestamp, &payload(codec, *index as u32), order, *at);
        }
        match buffer.read(&mut out, now) {
            Read::Audio(len) => {
                let index = index_of(codec, &out[..len]);
                heard.played.push(index);
                heard.missing += std::mem::take(&mut gap);
                let sent = Duration::from_secs_f64(period_s * f64::from(index));
                heard.last_delay = now.saturating_sub(sent);
                heard.max_delay = heard.max_delay.max(heard.last_delay);
            }
            _ if heard.played.is_empty() => {}
            _ => gap += 1,
        }
    }
    heard.figures = buffer.figures();
    heard
}

fn payload(codec: Codec, index: u32) -> Vec<u8> {
    match codec {
        Codec::G729 => index.to_be_bytes().repeat(5),
        // A CELT frame of 20 ms; what follows its first octet is not looked at here.
        Codec::Opus => [&[0xf8][..], &index.to_be_bytes().repeat(10)].concat(),
        _ => index.to_be_bytes().repeat(40),
    }
}

fn index_of(codec: Codec, octets: &[u8]) -> u32 {
    let start = usize::from(codec == Codec::Opus);
    u32::from_be_bytes([octets[start], octets[start + 1], octets[start + 2], octets[start + 3]])
}

fn is_in_order(played: &[u32]) -> bool {
    played.windows(2).all(|pair| pair[0] < pair[1])
}

#[test]
fn any_timestamp_is_survived_and_the_next_stream_is_heard() {
    for codec in Codec::ALL {
        for jump in [0, 1 << 30, i32::MAX as u32, 1 << 31, (1 << 31) + 1, 3 << 30, u32::MAX] {
            for order in [Order::Newest, Order::Overtaken] {
                let mut buffer = JitterBuffer::new(codec);
                let mut out = [0; MAX_FRAME_LEN];
                let mut heard = false;
                for index in 0..400 {
                    let now = Duration::from_millis(20) * index;
                    let line = RtpTimestamp(7).after(index * codec.frame_ticks());
                    buffer.write(line, &payload(codec, index), Order::Newest, now);
                    if index % 7 == 3 && index < 300 {
                        let playout = buffer.playout.unwrap_or(line);
                        buffer.write(playout.after(jump), &payload(codec, index), order, now);
                    }
                    heard = matches!(buffer.read(&mut out, now), Read::Audio(_));
                }
                assert!(heard, "{codec:?} {jump} {order:?}");
                assert!(buffer.delay_ms() <= 240, "{codec:?} {jump}: {}", buffer.delay_ms());
            }
        }
    }
}

const SEEDS: u64 = 60;

#[test]
fn whatever_the_network_does_audio_is_in_order_and_silence_is_accounted_for() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let network = Network {
            seed,
            loss: random.below(25) as f64 / 100.0,
            burst: 1.0 + random.below(4) as f64,
            jitter: Duration::from_millis(random.below(100)),
            held: random.below(5) as f64 / 100.0,
            hold: Duration::from_millis(random.below(200)),
            doubled: random.below(5) as f64 / 100.0,
            skew_ppm: random.below(401) as f64 - 200.0,
            reorders: random.chance(0.5),
        };
        for codec in [Codec::Pcma, Codec::G729, Codec::Opus] {
            let count = 2000;
            let heard = listen(&network, codec, count);
            let lost = network.carry(count, FRAME).lost.len() as u64;
            let figures = heard.figures;
            assert!(is_in_order(&heard.played), "seed {seed}");
            assert!(
                heard.max_delay
                    <= Duration::from_millis(20 * (MAX_LEVEL_FRAMES as u64 + 2))
                        + network.jitter
                        + network.hold,
                "seed {seed}: {:?}",
                heard.max_delay
            );
            // Silence comes of packets lost or late, or where the delay rose for late ones.
            assert!(
                heard.missing <= lost + figures.discarded + figures.raised,
                "seed {seed}: {} of {lost} {figures:?} {network:?}",
                heard.missing
            );
            let played = heard.played.len() as u64;
            assert!(
                played + lost + figures.discarded + figures.lowered + 20 >= count as u64,
                "seed {seed}: {played} {lost} {figures:?}"
            );
        }
    }
}

#[test]
fn a_good_network_costs_one_frame_of_delay_and_no_audio() {
    for seed in 0..50 {
        let network = Network { seed, jitter: Duration::from_millis(5), ..Network::default() };
        let heard = listen(&network, Codec::Pcmu, 3000);
        // A start that was too careful is corrected once.
        assert_eq!(heard.played.len() as u64 + heard.figures.lowered, 3000);
        assert!(heard.figures.lowered <= 1);
        assert!(heard.missing <= 1, "{heard:?}");
        assert!(heard.max_delay <= Duration::from_millis(45), "{:?}", heard.max_delay);
    }
}

#[test]
fn jitter_is_learnt_and_then_costs_no_audio() {
    for seed in 0..50 {
        let network = Network { seed, jitter: Duration::from_millis(90), ..Network::default() };
        let heard = listen(&network, Codec::Pcma, 5000);
        assert_eq!(heard.figures.discarded, 0);
        assert!(heard.missing <= 10, "seed {seed}: {:?}", heard.figures);
        assert!(heard.max_delay <= Duration::from_millis(150), "{:?}", heard.max_delay);
    }
}

/// Two hours with a sender whose clock is 200 ppm off: 72 frames too many or too few.
#[test]
fn clocks_that_differ_cost_single_frames_and_no_delay() {
    let needed = 2 * 3600 * 200 / 20_000;
    for skew_ppm in [200.0, -200.0] {
        let network = Network { jitter: Duration::from_millis(8), skew_ppm, ..Network::default() };
        let heard = listen(&network, Codec::Pcma, 2 * 3600 * 50);
        let figures = heard.figures;
        let (raised, lowered) = (figures.raised as i64, figures.lowered as i64);
        let net = if skew_ppm > 0.0 { lowered - raised } else { raised - lowered };
        assert!((net - needed).abs() <= 3, "{figures:?}");
        assert!(raised.min(lowered) <= 3, "{figures:?}");
        assert_eq!(figures.discarded, 0);
        assert!(heard.missing <= raised as u64);
        assert!(heard.max_delay <= Duration::from_millis(65), "{:?}", heard.max_delay);
    }
}

#[test]
fn packets_of_opus_of_10_and_60_ms_are_joined_and_counted() {
    let mut bench = Bench::new(Codec::Opus);
    let celt_10_ms = |frame: &[u8]| [&[0xf0][..], frame].concat();
    for (at, frame) in [(0, b"ab".as_slice()), (480, b"cde"), (960, b"fg")] {
        bench.buffer.write(RtpTimestamp(at), &celt_10_ms(frame), Order::Newest, FRAME);
    }
    let silk_60_ms = [0x18, 1, 2, 3];
    bench.buffer.write(RtpTimestamp(1920), &silk_60_ms, Order::Newest, FRAME);
    let mut out = [0; MAX_FRAME_LEN];
    let mut read = || match bench.buffer.read(&mut out, FRAME) {
        Read::Audio(len) => Ok(out[..len].to_vec()),
        other => Err(other),
    };
    assert_eq!(read(), Err(Read::Nothing));
    assert_eq!(read().unwrap(), b"\xf2\x02abcde");
    assert_eq!(read().unwrap(), b"\xf2\x02fgfg");
    assert_eq!(read().unwrap(), silk_60_ms);
    assert_eq!(
        (read(), read(), read()),
        (Err(Read::Continued), Err(Read::Continued), Err(Read::Lost))
    );
}

proptest! {
    #[test]
    fn any_packets_never_panic(
        packets in proptest::collection::vec(
            (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..1500), any::<bool>()),
            0..60,
        ),
        near: bool,
    ) {
        for codec in Codec::ALL {
            let mut bench = Bench::new(codec);
            let mut out = [0; MAX_FRAME_LEN];
            for (timestamp, payload, newest) in &packets {
                let timestamp = if near { timestamp % 20_000 } else { *timestamp };
                let order = if *newest { Order::Newest } else { Order::Overtaken };
                bench.buffer.write(RtpTimestamp(timestamp), payload, order, FRAME);
                bench.buffer.silence(RtpTimestamp(timestamp));
                if let Read::Audio(len) = bench.buffer.read(&mut out, FRAME) {
                    prop_assert!(len <= MAX_FRAME_LEN);
                }
            }
        }
    }
}
