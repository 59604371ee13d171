//! What the detectors cost for one frame of 20 ms.

use std::f64::consts::TAU;
use std::hint::black_box;

use _media::answer::{AnswerDetector, AnswerTimes};
use _media::dtmf_detector::DtmfDetector;
use _media::g711::FRAME_SAMPLES;
use _media::progress::ProgressDetector;
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

criterion_group!(benches, detectors);
criterion_main!(benches);
