use std::f64::consts::TAU;

use super::*;
use crate::codec::{Codec, Decoder, Encoder, MAX_FRAME_LEN, PCM_SAMPLES};
use crate::test_noise::Chance;
use crate::tone::Tone;

const SAMPLES_A_MS: usize = 8;

/// A speaker with sounds of its own, all of whose sentences are made of them.
struct Voice {
    pitch_hz: f64,
    /// Three resonances each; none is a hiss.
    sounds: Vec<Option<[f64; 3]>>,
}

impl Voice {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let sounds = (0..24).map(|index| {
            let between = |from: f64, to: f64, at: f64| from + (to - from) * at;
            (index % 4 != 0).then(|| {
                [(250.0, 800.0), (900.0, 2200.0), (2300.0, 3200.0)]
                    .map(|(from, to)| between(from, to, chance.uniform()))
            })
        });
        Self { sounds: sounds.collect(), pitch_hz: 100.0 + (seed % 5) as f64 * 25.0 }
    }

    /// Syllables of 60 to 160 ms with a pause now and then.
    fn sentence(&self, seed: u64, ms: usize) -> Vec<i16> {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut samples: Vec<i16> = Vec::new();
        let mut phase = 0.0;
        let mut state = [[0.0; 2]; 3];
        while samples.len() < ms * SAMPLES_A_MS {
            let len = (60.0 + 100.0 * chance.uniform()) as usize * SAMPLES_A_MS;
            if chance.uniform() < 0.08 {
                samples.extend(std::iter::repeat_n(0, len));
                continue;
            }
            let sound = self.sounds[(chance.uniform() * self.sounds.len() as f64) as usize];
            let pitch = self.pitch_hz * (0.85 + 0.3 * chance.uniform());
            for at in 0..len {
                phase = (phase + pitch / 8000.0) % 1.0;
                let source =
                    if sound.is_some() { 1.0 - 2.0 * phase } else { chance.normal() / 3.0 };
                let resonances = sound.unwrap_or([1800.0, 2600.0, 3300.0]);
                let mut value = 0.0;
                for (hz, [last, before]) in resonances.into_iter().zip(&mut state) {
                    let decay = (-TAU * 45.0 / 8000.0).exp();
                    let turn = 2.0 * decay * (TAU * hz / 8000.0).cos();
                    let now = source * (1.0 - decay) + turn * *last - decay * decay * *before;
                    (*before, *last) = (*last, now);
                    value += now;
                }
                let rise = (at.min(len - at) as f64 / 120.0).min(1.0);
                samples.push((value * rise * 2500.0).clamp(-32_000.0, 32_000.0) as i16);
            }
        }
        samples.truncate(ms * SAMPLES_A_MS);
        samples
    }
}

/// What becomes of audio on its way.
#[derive(Clone, Copy)]
struct Way<'a> {
    codecs: &'a [Codec],
    /// On the last of its hops.
    loss: f64,
    gain: f64,
}

const CLEAR: Way<'_> = Way { codecs: &[], loss: 0.0, gain: 1.0 };

impl Way<'_> {
    fn carry(self, samples: &[i16]) -> Vec<Pcm> {
        let mut chance = Chance(samples.len() as u64);
        let louder = |sample: &i16| (f64::from(*sample) * self.gain) as i16;
        let samples: Vec<i16> = samples.iter().map(louder).collect();
        let mut frames = samples.as_chunks::<PCM_SAMPLES>().0.to_vec();
        for (hop, codec) in self.codecs.iter().enumerate() {
            let loss = if hop + 1 == self.codecs.len() { self.loss } else { 0.0 };
            let (mut encoder, mut decoder) = (Encoder::new(*codec), Decoder::new(*codec));
            let mut octets = [0; MAX_FRAME_LEN];
            for frame in &mut frames {
                let len = encoder.encode(frame, &mut octets);
                if chance.uniform() < loss {
                    decoder.conceal(frame);
                } else {
                    decoder.decode(&octets[..len], frame);
                }
            }
        }
        frames
    }
}

fn reference(samples: &[i16]) -> Arc<Reference> {
    Arc::new(Reference::of(samples).unwrap())
}

fn recognised(sounds: &[Arc<Reference>], frames: &[Pcm]) -> Option<Recognised> {
    let mut recognition = Recognition::new(sounds.to_vec());
    frames.iter().find_map(|frame| recognition.hear(Some(frame)))
}

/// Silence, then a sound from some ms of it on, then silence.
fn line(lead: usize, sound: &[i16], from_ms: usize) -> Vec<i16> {
    let after = vec![0; 12_000];
    [&vec![0; lead][..], &sound[from_ms * SAMPLES_A_MS..], &after].concat()
}

#[test]
fn a_sound_is_recognised_after_every_codec_and_loss() {
    use Codec::{G722, G729, Opus, Pcma, Pcmu};
    let ways: [&[Codec]; 7] = [
        &[Pcma],
        &[Pcmu, Pcma],
        &[Pcma, G722],
        &[G729],
        &[Opus],
        &[Pcma, G729, Pcma],
        &[Opus, Pcma, G729],
    ];
    let voice = Voice::new(3);
    let sentences: Vec<_> = (0..4).map(|seed| voice.sentence(seed, 6000)).collect();
    let sounds: Vec<_> = sentences.iter().map(|sentence| reference(sentence)).collect();
    let (mut heard, mut known) = (0, 0);
    for (turn, codecs) in ways.into_iter().enumerate() {
        for (loss, gain) in [(0.0, 1.0), (0.05, 0.5), (0.05, 2.0)] {
            let index = turn % sentences.len();
            for from_ms in [0, 333, 1000] {
                let lead = 4000 + 37 * turn;
                let frames =
                    Way { codecs, loss, gain }.carry(&line(lead, &sentences[index], from_ms));
                let found = recognised(&sounds, &frames);
                heard += 1;
                let Some(found) = found else { continue };
                known += 1;
                let began_ms = (lead / SAMPLES_A_MS) as i64 - from_ms as i64;
                assert_eq!(found.sound, index, "{codecs:?} {loss} {gain}");
                assert!((found.began_ms - began_ms).abs() <= 45, "{codecs:?} {found:?} {began_ms}");
            }
        }
    }
    // Losses may fall so that the sound is over before enough of it came.
    assert!(known * 20 >= heard * 19, "{known} of {heard}");
}

#[test]
fn seconds_are_enough() {
    let voice = Voice::new(8);
    for seed in 0..20 {
        let sentence = voice.sentence(seed, 3000);
        let frames = CLEAR.carry(&line(800, &sentence, 0));
        let found = recognised(&[reference(&sentence)], &frames).unwrap();
        assert!(found.at_ms <= 100 + 2600, "{seed} {found:?}");
    }
}

#[test]
fn a_short_sound_is_recognised_at_its_end() {
    let voice = Voice::new(2);
    let mut known = 0;
    for seed in 0..20 {
        let word = voice.sentence(seed, 900);
        let Some(sound) = Reference::of(&word) else { continue };
        known += 1;
        let frames = CLEAR.carry(&line(1600, &word, 0));
        let found = recognised(&[Arc::new(sound)], &frames).unwrap();
        assert!((found.began_ms - 200).abs() <= 20, "{seed} {found:?}");
        assert!(found.at_ms <= 200 + 900 + 400, "{seed} {found:?}");
    }
    // The others are little more than a pause.
    assert!(known >= 15, "{known}");
}

/// A quarter of an hour of the voice that also speaks what is listened for; tests of hours with
/// synthesised speech are told of in docs/media.md.
#[test]
fn other_sentences_of_the_same_voice_are_not_recognised() {
    let voice = Voice::new(5);
    let sounds: Vec<_> = (0..4).map(|seed| reference(&voice.sentence(seed, 4000))).collect();
    for seed in 100..110 {
        let frames = CLEAR.carry(&voice.sentence(seed, 90_000));
        assert_eq!(recognised(&sounds, &frames), None, "{seed}");
    }
}

#[test]
fn music_tones_noise_and_silence_are_not_recognised() {
    let voice = Voice::new(1);
    let sounds: Vec<_> = (0..4).map(|seed| reference(&voice.sentence(seed, 3000))).collect();
    let mut chance = Chance(7);
    let mut note_hz = [0.0; 3];
    let mut music = Vec::new();
    for at in 0..480_000usize {
        if at % 2000 == 0 {
            note_hz = [0; 3].map(|_| 220.0 * 2f64.powf((chance.uniform() * 24.0).floor() / 12.0));
        }
        let sum: f64 = note_hz.iter().map(|hz| (TAU * hz * at as f64 / 8000.0).sin()).sum();
        music.push((sum * 4000.0 * (1.0 - (at % 2000) as f64 / 2500.0)) as i16);
    }
    let busy: Vec<i16> = Tone::Busy.period().into_iter().cycle().take(160_000).collect();
    let noise: Vec<i16> = (0..160_000).map(|_| (chance.normal() * 3000.0) as i16).collect();
    for samples in [music, busy, noise, vec![0; 160_000]] {
        assert_eq!(recognised(&sounds, &CLEAR.carry(&samples)), None);
    }
}

#[test]
fn sounds_that_begin_alike_are_told_apart_by_what_follows() {
    let voice = Voice::new(4);
    let beginning = voice.sentence(1, 3000);
    let spoken = [2, 3].map(|seed| [&beginning[..], &voice.sentence(seed, 2500)].concat());
    let sounds = [reference(&spoken[0]), reference(&spoken[1])];
    for (index, spoken) in spoken.iter().enumerate() {
        let found = recognised(&sounds, &CLEAR.carry(&line(800, spoken, 0))).unwrap();
        assert_eq!(found.sound, index);
        assert!(found.at_ms >= 3000, "{found:?}");
    }
}

#[test]
fn of_two_equal_sounds_the_first_is_told() {
    let sentence = Voice::new(4).sentence(9, 2500);
    let sounds = [reference(&Voice::new(4).sentence(8, 2500)), reference(&sentence)];
    let sounds = [&sounds[..], &sounds[1..]].concat();
    let found = recognised(&sounds, &CLEAR.carry(&line(800, &sentence, 0))).unwrap();
    assert_eq!(found.sound, 1);
    assert!((found.began_ms - 100).abs() <= 20, "{found:?}");
}

#[test]
fn what_says_too_little_cannot_be_learnt() {
    assert!(Reference::of(&[]).is_none());
    assert!(Reference::of(&[0; 80_000]).is_none());
    let steady: Vec<i16> = Tone::Dial.period().into_iter().cycle().take(80_000).collect();
    assert!(Reference::of(&steady).is_none());
    assert!(Reference::of(&Voice::new(1).sentence(1, 100)).is_none());
}

#[test]
fn any_audio_is_heard_without_panic() {
    let sounds = [reference(&Voice::new(1).sentence(1, 2000))];
    let mut chance = Chance(3);
    for length in (0..3000).step_by(7) {
        let samples: Vec<i16> =
            (0..length).map(|_| if chance.uniform() < 0.5 { i16::MIN } else { i16::MAX }).collect();
        let _too_little = Reference::of(&samples);
    }
    let mut recognition = Recognition::new(sounds.to_vec());
    for round in 0..500 {
        let loud = [[i16::MIN; PCM_SAMPLES], [i16::MAX; PCM_SAMPLES]][round % 2];
        assert_eq!(recognition.hear((round % 3 > 0).then_some(&loud)), None);
    }
}
