//! CPU time for 20 ms in each codec, which other work on the machine blurs less than the clock.
//!
//! cargo run --release --no-default-features --example codec_cpu

use std::f32::consts::TAU;
use std::hint::black_box;
use std::time::Duration;

use _media::clock::thread_cpu;
use _media::codec::{Codec, Decoder, Encoder, MAX_FRAME_LEN, PCM_SAMPLES, Pcm};

/// Frames in a run, 20 s of audio; the best of several runs counts.
const FRAMES: usize = 1000;
const RUNS: usize = 7;

fn voice() -> Vec<Pcm> {
    let mut phase = 0.0_f32;
    let frame = |_| {
        std::array::from_fn(|_| {
            phase = (phase + 140.0 / 8000.0).fract();
            let tone: f32 =
                (1..=12u8).map(|n| (TAU * phase * f32::from(n)).sin() / f32::from(n)).sum();
            (3000.0 * tone) as i16
        })
    };
    (0..FRAMES).map(frame).collect()
}

fn best_us(mut run: impl FnMut()) -> f64 {
    let once = |_| {
        let start = thread_cpu();
        run();
        thread_cpu().saturating_sub(start)
    };
    let best = (0..RUNS).map(once).min().unwrap_or(Duration::ZERO);
    best.as_secs_f64() * 1e6 / FRAMES as f64
}

fn main() {
    let voice = voice();
    println!("codec  encode  decode  (µs of CPU for 20 ms)");
    for codec in Codec::ALL {
        let mut octets = [0; MAX_FRAME_LEN];
        let mut encoder = Encoder::new(codec);
        let mut payloads = Vec::new();
        for pcm in &voice {
            let len = encoder.encode(pcm, &mut octets);
            payloads.push(octets[..len].to_vec());
        }
        let encode_us = best_us(|| {
            for pcm in &voice {
                black_box(encoder.encode(pcm, &mut octets));
            }
        });
        let mut decoder = Decoder::new(codec);
        let mut pcm = [0; PCM_SAMPLES];
        let decode_us = best_us(|| {
            for payload in &payloads {
                black_box(decoder.decode(payload, &mut pcm));
            }
        });
        println!("{:6} {encode_us:6.2}  {decode_us:6.2}", codec.name());
    }
}
