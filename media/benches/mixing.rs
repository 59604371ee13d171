//! What a frame of 20 ms costs in conferences and recordings.

use std::hint::black_box;

use _media::codec::{Codec, Encoded, PCM_SAMPLES, Pcm};
use _media::event::RecordingId;
use _media::g711::Law;
use _media::matrix::Hearing;
use _media::mixer::{self, Sources};
use _media::recorder::{Chunk, Outlet, Recorder, Side};
use _media::sound::Sound;
use _media::wav::{Form, Layout};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const PARTIES: [usize; 4] = [2, 3, 8, 32];

/// Ports that are all heard.
struct Talkers(Vec<Pcm>);

impl Talkers {
    fn new(count: usize) -> Self {
        let voice = |party: usize| {
            std::array::from_fn(|index| ((index * (party + 3) * 37) % 8000) as i16 - 4000)
        };
        Self((0..count).map(voice).collect())
    }
}

impl Sources for Talkers {
    fn encoded(&self, _source: usize, _round: u64) -> Option<&Encoded> {
        None
    }

    fn pcm(&mut self, source: usize, _round: u64) -> Option<&Pcm> {
        self.0.get(source)
    }
}

/// Every party hears all others: 20 ms of a whole conference, before encoding.
fn conferences(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mix for every party");
    for parties in PARTIES {
        let mut talkers = Talkers::new(parties);
        let others: Vec<Vec<usize>> =
            (0..parties).map(|own| (0..parties).filter(|other| *other != own).collect()).collect();
        let mut sound = Sound::default();
        group.bench_function(BenchmarkId::from_parameter(parties), |bench| {
            bench.iter(|| {
                for sources in &others {
                    let hearing = Hearing { sources, ..Hearing::default() };
                    mixer::hear(hearing, Codec::Pcma, 1, &mut talkers, &mut sound);
                    black_box(sound.pcm());
                }
            });
        });
    }
    group.finish();
}

/// 20 ms of both sides into the chunk for the disk, and from there to the octets of the file.
fn recordings(criterion: &mut Criterion) {
    let voice: Pcm = std::array::from_fn(|index| (index * 37 % 8000) as i16);
    let octets = voice.map(|sample| Law::A.encode(sample));
    assert_eq!(voice.len(), PCM_SAMPLES);
    for (name, form) in [("PCM16", Form::Pcm16), ("A-law", Form::ALaw)] {
        let layout = Layout { channels: 2, form };
        for (heard, side) in
            [("G.711", Side::Law(Law::A, &octets)), ("samples", Side::Linear(&voice))]
        {
            let mut recorder =
                Recorder::new(Outlet::File(RecordingId(1)), layout, 0, 0, Chunk::default());
            let (mut spare, mut file) = (Chunk::default(), Vec::new());
            criterion.bench_function(&format!("gather two channels of {heard}, {name}"), |bench| {
                bench.iter(|| {
                    recorder.push(side);
                    recorder.push(side);
                    if recorder.end_frame() {
                        spare = recorder.take(std::mem::take(&mut spare)).0;
                    }
                });
            });
            let mut chunk = Chunk::default();
            chunk.push(side);
            chunk.push(side);
            criterion.bench_function(&format!("write two channels of {heard}, {name}"), |bench| {
                bench.iter(|| {
                    file.clear();
                    chunk.render(layout, &mut file);
                });
            });
        }
    }
}

criterion_group!(benches, conferences, recordings);
criterion_main!(benches);
