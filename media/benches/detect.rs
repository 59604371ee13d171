//! What the detectors cost for one frame of 20 ms.

use std::f64::consts::TAU;
use std::hint::black_box;
use std::sync::Arc;

use _media::answer::{AnswerDetector, AnswerTimes};
use _media::dtmf_detector::DtmfDetector;
use _media::g711::FRAME_SAMPLES;
use _media::progress::ProgressDetector;
use _media::recognition::{Recognition, Reference};
use _media::single_tone::measure;
use _media::tone::{KeyTone, peak_of};
use criterion::{Criterion, criterion_group, criterion_main};

type Pcm = [i16; FRAME_SAMPLES];

/// Harmonics of a voice, 2 s.
fn voice() -> Vec<Pcm> {
    let sample = |at: u32| {
        let second = f64::from(at) / 8000.0;
        let phase = TAU * 130.0 * second;
        let sum: f64 = (1..12).map(|k| (phase * f64::from(k)).sin() / f64::from(k)).sum();
        (peak_of(-15.0) * sum) as i16
    };
    let samples: Vec<i16> = (0..16_000).map(sample).collect();
    samples.as_chunks().0.to_vec()
}

/// Sounds of random pitch and loudness, a dozen a second: what sounds like nothing else.
fn babble(seed: u64, seconds: usize) -> Vec<i16> {
    let mut state = seed | 1;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let mut samples = Vec::new();
    while samples.len() < seconds * 8000 {
        let (pitch, bright) = (90.0 + 120.0 * uniform(), 300.0 + 2500.0 * uniform());
        let loud = peak_of(-12.0 - 15.0 * uniform());
        for at in 0..500 + (500.0 * uniform()) as u32 {
            let phase = TAU * pitch * f64::from(at) / 8000.0;
            let sum: f64 = (1..25)
                .map(|k| {
                    let off = (pitch * f64::from(k) - bright) / 400.0;
                    (phase * f64::from(k)).sin() / (1.0 + off * off)
                })
                .sum();
            samples.push((loud * sum / 3.0 + 40.0 * uniform()) as i16);
        }
    }
    samples
}

fn recognition(criterion: &mut Criterion) {
    let sounds: Vec<_> = [(1, 10), (2, 10), (3, 10), (4, 3)]
        .map(|(seed, seconds)| Reference::of(&babble(seed, seconds)).map(Arc::new))
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(sounds.len(), 4);
    let speech = babble(9, 20).as_chunks().0.to_vec();
    let silence = vec![[0; FRAME_SAMPLES]; 4];
    for (name, sounds, frames) in [
        ("3 s, other speech", &sounds[3..], &speech),
        ("10 s, other speech", &sounds[..1], &speech),
        ("three of 10 s, other speech", &sounds[..3], &speech),
        ("10 s, silence", &sounds[..1], &silence),
    ] {
        let mut recognition = Recognition::new(sounds.to_vec());
        let mut turn = frames.iter().cycle();
        criterion.bench_function(&format!("known sound of {name}"), |bench| {
            bench.iter(|| turn.next().map(|frame| recognition.hear(Some(black_box(frame)))));
        });
    }
    let prompt = babble(1, 10);
    criterion.bench_function("learning a sound of 10 s", |bench| {
        bench.iter(|| Reference::of(black_box(&prompt)));
    });
}

fn key() -> Vec<Pcm> {
    let mut tone = KeyTone::new('5').unwrap();
    let mut frames = vec![[0; FRAME_SAMPLES]; 100];
    frames.iter_mut().for_each(|frame| tone.fill(frame, false));
    frames
}

fn detectors(criterion: &mut Criterion) {
    for (name, frames) in
        [("voice", voice()), ("key", key()), ("silence", vec![[0; FRAME_SAMPLES]; 4])]
    {
        let mut keys = DtmfDetector::default();
        let mut turn = frames.iter().cycle();
        criterion.bench_function(&format!("in-band keys, {name}"), |bench| {
            bench.iter(|| turn.next().map(|frame| keys.hear(black_box(frame))));
        });
        let mut progress = ProgressDetector::default();
        let mut answer = AnswerDetector::new(AnswerTimes::default());
        let mut turn = frames.iter().cycle();
        criterion.bench_function(&format!("progress and answer, {name}"), |bench| {
            bench.iter(|| {
                turn.next().map(|frame| {
                    let heard = measure(black_box(frame));
                    (progress.hear(&heard), answer.hear(&heard))
                })
            });
        });
    }
}

criterion_group!(benches, detectors, recognition);
criterion_main!(benches);
