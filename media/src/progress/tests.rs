use super::*;
use crate::g711::{FRAME_SAMPLES, Law};
use crate::single_tone::measure;
use crate::test_noise::Chance;
use crate::tone::{Tone, peak_of};

struct Line {
    noise_dbm0: f64,
    gain_db: f64,
    loss: f64,
    seed: u64,
    offset: usize,
}

const CLEAR: Line = Line { noise_dbm0: -70.0, gain_db: 0.0, loss: 0.0, seed: 1, offset: 0 };

impl Line {
    /// What is recognised, with the time in ms, in audio that goes through the line.
    fn heard(&self, samples: impl IntoIterator<Item = i16>) -> Vec<(Signal, u32)> {
        let mut chance = Chance(self.seed);
        let gain = 10f64.powf(self.gain_db / 20.0);
        let noise = peak_of(self.noise_dbm0) / 2f64.sqrt();
        let lead = std::iter::repeat_n(0, self.offset);
        let line: Vec<i16> = lead
            .chain(samples)
            .map(|sample| {
                let value = gain * f64::from(sample) + noise * chance.normal();
                Law::A.decode(Law::A.encode(value.round() as i16))
            })
            .collect();
        let mut detector = ProgressDetector::default();
        let mut at_ms = 0;
        let mut signals = Vec::new();
        for frame in line.as_chunks::<FRAME_SAMPLES>().0 {
            at_ms += FRAME_MS;
            let lost = chance.uniform() < self.loss;
            let frame = if lost { [0; FRAME_SAMPLES] } else { *frame };
            if let Some(signal) = detector.hear(&measure(&frame)) {
                signals.push((signal, at_ms));
            }
        }
        signals
    }

    fn names(&self, samples: impl IntoIterator<Item = i16>) -> Vec<Signal> {
        self.heard(samples).into_iter().map(|(signal, _)| signal).collect()
    }
}

fn seconds(tone: Tone, seconds: usize) -> Vec<i16> {
    tone.period().into_iter().cycle().take(seconds * 8000).collect()
}

const KNOWN: [(Tone, Signal, u32); 7] = [
    (Tone::Dial, Signal::Dial, 2100),
    (Tone::Ringback, Signal::Ringback, 2600),
    (Tone::Busy, Signal::Busy, 1500),
    (Tone::Congestion, Signal::Congestion, 2900),
    (Tone::Unobtainable, Signal::Unobtainable, 2900),
    (Tone::FaxCalling, Signal::FaxCalling, 600),
    (Tone::FaxAnswer, Signal::FaxAnswer, 700),
];

#[test]
fn every_tone_is_recognised_once_and_soon() {
    for offset in [0, 40, 80, 120, 159] {
        for (tone, signal, within_ms) in KNOWN {
            let heard = Line { offset, ..CLEAR }.heard(seconds(tone, 16));
            assert_eq!(heard.len(), 1, "{tone:?} {offset}: {heard:?}");
            assert_eq!(heard[0].0, signal, "{offset}");
            assert!(heard[0].1 <= within_ms, "{heard:?}");
        }
    }
}

#[test]
fn other_tones_of_the_plan_are_not_mistaken() {
    for tone in
        [Tone::SpecialDial, Tone::TollNotice, Tone::CallWaiting, Tone::Reminder, Tone::Howler]
    {
        assert_eq!(CLEAR.names(seconds(tone, 22)), [], "{tone:?}");
    }
}

#[test]
fn noise_level_and_loss_are_borne() {
    for seed in 1..=6 {
        for (tone, signal, _) in KNOWN {
            let noisy = Line { noise_dbm0: -30.0, seed, offset: 7 * seed as usize, ..CLEAR };
            assert_eq!(noisy.names(seconds(tone, 16)), [signal], "noise {seed} {tone:?}");
            let quiet = Line { gain_db: -20.0, noise_dbm0: -55.0, seed, ..CLEAR };
            assert_eq!(quiet.names(seconds(tone, 16)), [signal], "level {seed} {tone:?}");
            let lossy = Line { loss: 0.02, seed, ..CLEAR };
            let found = lossy.names(seconds(tone, 30));
            assert_eq!(found.first(), Some(&signal), "loss {seed} {tone:?}: {found:?}");
            assert!(found.iter().all(|found| *found == signal), "loss {seed} {tone:?}: {found:?}");
        }
    }
}

#[test]
fn what_follows_is_told_too() {
    let audio = [seconds(Tone::Ringback, 10), seconds(Tone::Busy, 5)].concat();
    assert_eq!(CLEAR.names(audio), [Signal::Ringback, Signal::Busy]);
    let again = [seconds(Tone::Busy, 5), vec![0; 80_000], seconds(Tone::Busy, 5)].concat();
    assert_eq!(CLEAR.names(again), [Signal::Busy, Signal::Busy]);
}

#[test]
fn cadences_and_frequencies_may_be_off_by_what_the_standard_allows() {
    for (hz, scale) in [(425.0, 0.9), (475.0, 1.1), (450.0, 0.9), (425.0, 1.1)] {
        for (on_s, off_s, signal) in [
            (0.35, 0.35, Signal::Busy),
            (0.7, 0.7, Signal::Congestion),
            (1.0, 4.0, Signal::Ringback),
        ] {
            let period = scale * (on_s + off_s);
            let audio: Vec<i16> = (0..96_000)
                .map(|at| {
                    let second = f64::from(at) / 8000.0;
                    let sounds = second % period < scale * on_s;
                    let sine = peak_of(-13.0) * (TAU * hz * second).sin();
                    if sounds { sine as i16 } else { 0 }
                })
                .collect();
            assert_eq!(CLEAR.names(audio), [signal], "{hz} {scale}");
        }
    }
}

#[test]
fn an_answering_modem_is_told_from_a_fax() {
    let modem = (0..24_000).map(|at| {
        let second = f64::from(at) / 8000.0;
        // V.8: 15 Hz swell of 20 %, and a reversal of phase every 450 ms.
        let swell = 1.0 + 0.2 * (TAU * 15.0 * second).sin();
        let turned = if second % 0.9 < 0.45 { 0.0 } else { TAU / 2.0 };
        (peak_of(-15.0) * swell * (TAU * 2100.0 * second + turned).sin()) as i16
    });
    assert_eq!(CLEAR.names(modem), [Signal::ModemAnswer]);
    let reversed = (0..24_000).map(|at| {
        let second = f64::from(at) / 8000.0;
        let turned = if second % 0.9 < 0.45 { 0.0 } else { TAU / 2.0 };
        (peak_of(-15.0) * (TAU * 2100.0 * second + turned).sin()) as i16
    });
    assert_eq!(CLEAR.names(reversed), [Signal::FaxAnswer]);
}

#[test]
fn noise_and_sweeps_are_no_tone() {
    let mut chance = Chance(3);
    let noise: Vec<i16> = (0..8000 * 60).map(|_| (3982.0 * chance.normal()) as i16).collect();
    assert_eq!(CLEAR.names(noise), []);
    let sweep = (0..8000 * 20).map(|at| {
        let second = f64::from(at) / 8000.0;
        (8000.0 * (TAU * (200.0 + 60.0 * second) * second).sin()) as i16
    });
    assert_eq!(CLEAR.names(sweep), []);
}
