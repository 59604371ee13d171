use std::f64::consts::TAU;

use super::*;
use crate::g711::FRAME_SAMPLES;
use crate::single_tone::measure;
use crate::test_noise::Chance;
use crate::tone::{Tone, peak_of};

const NOISE_DBM0: f64 = -55.0;

/// What is heard on the line, in ms.
#[derive(Clone, Copy)]
enum Part {
    Silence(u32),
    Voice(u32),
    Beep(f64, u32),
    Network(Tone, u32),
}
use Part::{Beep as Beeps, Network, Silence, Voice};

struct Speaker {
    chance: Chance,
    voice_dbm0: f64,
    pitch_hz: f64,
}

impl Speaker {
    fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            voice_dbm0: -24.0 + (seed % 4) as f64 * 3.0,
            pitch_hz: 95.0 + (seed * 37 % 130) as f64,
        }
    }

    /// Harmonics that wander, with syllables of 200 ms; the pauses of a real voice are shorter
    /// than a word.
    fn voice(&mut self, at_ms: f64) -> f64 {
        let syllable = (0.35 + (TAU * at_ms / 200.0).sin().abs()) / 1.1;
        let pitch = self.pitch_hz * (1.0 + 0.1 * (TAU * at_ms / 730.0).sin());
        let phase = TAU * pitch * at_ms / 1000.0;
        let sum: f64 = (1..12).map(|k| (phase * f64::from(k) + f64::from(k)).sin() / 3.0).sum();
        peak_of(self.voice_dbm0) * syllable * sum
    }

    fn audio(&mut self, parts: &[Part]) -> Vec<i16> {
        let noise = peak_of(NOISE_DBM0) / 2f64.sqrt();
        let mut samples = Vec::new();
        for part in parts {
            let (Silence(ms) | Voice(ms) | Beeps(_, ms) | Network(_, ms)) = *part;
            let period = if let Network(tone, _) = part { tone.period() } else { Vec::new() };
            for at in 0..ms * 8 {
                let at_ms = f64::from(at) / 8.0;
                let value = match part {
                    Silence(_) => 0.0,
                    Voice(_) => self.voice(at_ms),
                    Beeps(hz, _) => peak_of(-12.0) * (TAU * hz * at_ms / 1000.0).sin(),
                    Network(..) => f64::from(period[at as usize % period.len()]),
                };
                samples.push((value + noise * self.chance.normal()).round() as i16);
            }
        }
        samples
    }
}

fn judged(seed: u64, loss: f64, parts: &[Part]) -> Vec<(Answer, u32)> {
    let audio = Speaker::new(seed).audio(parts);
    let mut chance = Chance(seed + 1000);
    let mut detector = AnswerDetector::new(AnswerTimes::default());
    let mut answers = Vec::new();
    for (frame, pcm) in audio.as_chunks::<FRAME_SAMPLES>().0.iter().enumerate() {
        let pcm = if chance.uniform() < loss { [0; FRAME_SAMPLES] } else { *pcm };
        if let Some(answer) = detector.hear(&measure(&pcm)) {
            answers.push((answer, (frame as u32 + 1) * FRAME_MS));
        }
    }
    answers
}

fn kinds(seed: u64, loss: f64, parts: &[Part]) -> Vec<Answer> {
    judged(seed, loss, parts).into_iter().map(|(answer, _)| answer).collect()
}

#[test]
fn a_short_greeting_is_a_person() {
    for seed in 0..12 {
        for loss in [0.0, 0.03] {
            for greeting in [300, 700, 1200] {
                let call = [Silence(400), Voice(greeting), Silence(3000)];
                let answers = judged(seed, loss, &call);
                assert_eq!(answers.len(), 1, "{seed} {greeting} {answers:?}");
                assert_eq!(answers[0].0, Answer::Person, "{seed} {greeting}");
                assert!(answers[0].1 <= 400 + greeting + 900, "{answers:?}");
            }
            let twice = [Silence(200), Voice(300), Silence(300), Voice(500), Silence(3000)];
            assert_eq!(kinds(seed, loss, &twice), [Answer::Person], "{seed}");
        }
    }
}

#[test]
fn a_person_does_not_beep() {
    let call = [Voice(600), Silence(1500), Beeps(1000.0, 400), Silence(1000)];
    assert_eq!(kinds(1, 0.0, &call), [Answer::Person]);
}

#[test]
fn a_long_greeting_is_a_machine_and_its_beep_is_told() {
    for seed in 0..12 {
        for loss in [0.0, 0.03] {
            for hz in [440.0 + 60.0, 850.0, 1000.0, 1400.0] {
                let call = [
                    Silence(700),
                    Voice(2500),
                    Silence(400),
                    Voice(1500),
                    Silence(500),
                    Beeps(hz, 400),
                    Silence(2000),
                ];
                let answers = judged(seed, loss, &call);
                assert_eq!(answers.first().map(|(answer, _)| *answer), Some(Answer::Machine));
                assert!(answers[0].1 <= 700 + 1800 + 300, "{answers:?}");
                if loss == 0.0 {
                    let beep_ends = 700 + 2500 + 400 + 1500 + 500 + 400;
                    assert_eq!(answers.len(), 2, "{seed} {hz} {answers:?}");
                    assert_eq!(answers[1].0, Answer::Beep);
                    assert!((beep_ends + 60..=beep_ends + 160).contains(&answers[1].1));
                }
            }
        }
    }
}

#[test]
fn nobody_is_silence_and_clicks_are_no_words() {
    assert_eq!(judged(1, 0.0, &[Silence(8000)]), [(Answer::Silence, 3000)]);
    let clicks = [Silence(500), Voice(40), Silence(500), Voice(40), Silence(4000)];
    assert_eq!(kinds(1, 0.0, &clicks), [Answer::Silence]);
}

#[test]
fn a_beep_at_once_is_a_machine_too() {
    let call = [Silence(500), Beeps(1000.0, 500), Silence(2000)];
    assert_eq!(kinds(1, 0.0, &call), [Answer::Beep]);
}

#[test]
fn tones_of_the_network_are_neither_words_nor_beeps() {
    for tone in [Tone::Ringback, Tone::Busy, Tone::FaxCalling, Tone::FaxAnswer] {
        assert_eq!(kinds(1, 0.0, &[Network(tone, 9000)]), [Answer::Silence], "{tone:?}");
    }
}
