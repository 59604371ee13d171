//! What 20 ms cost in each codec: the price of a leg that has to be transcoded.

use std::f32::consts::TAU;
use std::hint::black_box;

use _media::codec::{Codec, Decoder, Encoder, MAX_FRAME_LEN, PCM_SAMPLES, Pcm};
use criterion::{Criterion, criterion_group, criterion_main};

/// Frames of something like a voice, 1 s.
const FRAMES: usize = 50;

fn voice() -> Vec<Pcm> {
    let mut phase = 0.0_f32;
    let frame = |_| {
        std::array::from_fn(|_| {
            phase += 140.0 / 8000.0;
            let tone: f32 =
                (1..=12u8).map(|n| (TAU * phase * f32::from(n)).sin() / f32::from(n)).sum();
            (3000.0 * tone) as i16
        })
    };
    (0..FRAMES).map(frame).collect()
}

fn codecs(criterion: &mut Criterion) {
    let voice = voice();
    for codec in Codec::ALL {
        let mut encoder = Encoder::new(codec);
        let mut octets = [0; MAX_FRAME_LEN];
        let mut index = 0;
        criterion.bench_function(&format!("{} encode 20 ms", codec.name()), |bench| {
            bench.iter(|| {
                index = (index + 1) % FRAMES;
                black_box(encoder.encode(&voice[index], &mut octets))
            });
        });

        let mut encoder = Encoder::new(codec);
        let payloads: Vec<Vec<u8>> = voice
            .iter()
            .map(|pcm| {
                let len = encoder.encode(pcm, &mut octets);
                octets[..len].to_vec()
            })
            .collect();
        let mut decoder = Decoder::new(codec);
        let mut pcm = [0; PCM_SAMPLES];
        criterion.bench_function(&format!("{} decode 20 ms", codec.name()), |bench| {
            bench.iter(|| {
                index = (index + 1) % FRAMES;
                black_box(decoder.decode(&payloads[index], &mut pcm))
            });
        });
        criterion.bench_function(&format!("{} pass on undecoded 20 ms", codec.name()), |bench| {
            bench.iter(|| {
                index = (index + 1) % FRAMES;
                decoder.skip(black_box(&payloads[index]));
            });
        });

        let mut decoder = Decoder::new(codec);
        criterion.bench_function(&format!("{} decode with 5 % lost", codec.name()), |bench| {
            bench.iter(|| {
                index = (index + 1) % FRAMES;
                black_box(match index % 20 {
                    7 => decoder.conceal(&mut pcm),
                    _ => decoder.decode(&payloads[index], &mut pcm),
                })
            });
        });
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
