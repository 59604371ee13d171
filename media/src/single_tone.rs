//! Is this frame one pure tone, and of which frequency?

use std::f64::consts::TAU;

use crate::g711::FRAME_SAMPLES;
use crate::tone::{SAMPLE_RATE_HZ, level_of};

/// Each frame is looked at through two windows, the second so much later than the first; the
/// phase between them tells the frequency exactly.
const WINDOW: usize = 100;
const SHIFT: usize = FRAME_SAMPLES - WINDOW;

/// Share of the power that must be in the tone: 9 dB over noise.
const MIN_PURITY: f64 = 0.88;

/// A tone this near is seen at its full power; one farther off is looked for again.
const CLOSE_HZ: f64 = 10.0;
const PASSES: u32 = 3;

/// Below this a frame is silence to us and its tone is not looked for.
const MIN_LEVEL_DBM0: f64 = -43.0;

/// What 20 ms hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// Level of all that is heard.
    pub level_dbm0: f64,
    /// The frequency, when it is a single tone.
    pub tone_hz: Option<f64>,
}

/// Measures one frame.
#[must_use]
pub fn measure(pcm: &[i16; FRAME_SAMPLES]) -> Heard {
    let samples = pcm.map(f64::from);
    let energy: f64 = samples.iter().map(|sample| sample * sample).sum();
    let level_dbm0 = level_of(energy / FRAME_SAMPLES as f64);
    let tone_hz = (level_dbm0 >= MIN_LEVEL_DBM0).then(|| find_tone(&samples)).flatten();
    Heard { level_dbm0, tone_hz }
}

fn find_tone(samples: &[f64; FRAME_SAMPLES]) -> Option<f64> {
    let mut hz = coarse_frequency(samples)?;
    for _ in 0..PASSES {
        let step = TAU * hz / f64::from(SAMPLE_RATE_HZ);
        let first = project(&samples[..WINDOW], step);
        let second = project(&samples[SHIFT..], step);
        // What the phase has turned more than a tone of this frequency would have tells the error.
        let ahead = second.phase - first.phase - step * SHIFT as f64;
        let error = (ahead + TAU * 100.5).rem_euclid(TAU) - TAU / 2.0;
        let off_hz = error / TAU * f64::from(SAMPLE_RATE_HZ) / SHIFT as f64;
        if off_hz.abs() <= CLOSE_HZ {
            let purity = (first.power + second.power) / (first.total + second.total);
            return (purity >= MIN_PURITY).then_some(hz + off_hz);
        }
        hz += off_hz;
    }
    None
}

/// Pisarenko's estimate from the correlations at one and two samples, which white noise leaves
/// alone.
fn coarse_frequency(samples: &[f64; FRAME_SAMPLES]) -> Option<f64> {
    let correlation = |lag: usize| -> f64 {
        let sum: f64 = samples.iter().zip(&samples[lag..]).map(|(a, b)| a * b).sum();
        sum / (FRAME_SAMPLES - lag) as f64
    };
    let (one, two) = (correlation(1), correlation(2));
    if one == 0.0 {
        return None;
    }
    let root = (two * two + 8.0 * one * one).sqrt();
    let cosine = (two + root) / (4.0 * one);
    let cosine = if cosine.abs() <= 1.0 { cosine } else { (two - root) / (4.0 * one) };
    (cosine.abs() < 1.0).then(|| cosine.acos() / TAU * f64::from(SAMPLE_RATE_HZ))
}

struct Projection {
    phase: f64,
    /// Mean square of the tone.
    power: f64,
    /// Mean square of all.
    total: f64,
}

/// The part of a Hann-windowed stretch that turns by `step` a sample.
fn project(samples: &[f64], step: f64) -> Projection {
    let len = samples.len() as f64;
    let (turn_im, turn_re) = step.sin_cos();
    let (hann_im, hann_re) = (TAU / len).sin_cos();
    let (mut re, mut im) = (1.0, 0.0);
    let (mut cos, mut sin) = (TAU * 0.5 / len).sin_cos();
    std::mem::swap(&mut cos, &mut sin);
    let (mut sum_re, mut sum_im, mut total) = (0.0, 0.0, 0.0);
    for sample in samples {
        let weight = (1.0 - cos) / len;
        sum_re += weight * sample * re;
        sum_im -= weight * sample * im;
        total += weight * sample * sample;
        (re, im) = (re * turn_re - im * turn_im, re * turn_im + im * turn_re);
        (cos, sin) = (cos * hann_re - sin * hann_im, cos * hann_im + sin * hann_re);
    }
    let power = 2.0 * (sum_re * sum_re + sum_im * sum_im);
    Projection { phase: sum_im.atan2(sum_re), power, total }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::peak_of;

    fn sine(hz: f64, level_dbm0: f64, noise_dbm0: f64, phase: f64) -> [i16; FRAME_SAMPLES] {
        let mut state = (hz as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
        };
        let noise = peak_of(noise_dbm0) / 2f64.sqrt() * 12f64.sqrt();
        std::array::from_fn(|at| {
            let tone = peak_of(level_dbm0) * (TAU * hz * at as f64 / 8000.0 + phase).sin();
            (tone + noise * uniform()).round() as i16
        })
    }

    #[test]
    fn a_clear_tone_is_measured_to_a_hertz() {
        for hz in (350..2600).step_by(25) {
            for phase in [0.0, 1.0, 2.0, 3.0] {
                let heard = measure(&sine(f64::from(hz), -15.0, -70.0, phase));
                let found = heard.tone_hz.unwrap();
                assert!((found - f64::from(hz)).abs() < 1.0, "{hz} {found}");
                assert!((heard.level_dbm0 + 15.0).abs() < 1.0, "{hz} {heard:?}");
            }
        }
    }

    #[test]
    fn a_noisy_tone_is_measured_to_ten_hertz() {
        for hz in [425.0, 450.0, 475.0, 1100.0, 2100.0] {
            for phase in [0.0, 1.0, 2.0, 3.0] {
                let found = measure(&sine(hz, -15.0, -30.0, phase)).tone_hz.unwrap();
                assert!((found - hz).abs() < 10.0, "{hz} {found}");
            }
        }
    }

    #[test]
    fn two_tones_noise_and_silence_are_no_tone() {
        assert_eq!(measure(&sine(450.0, -60.0, -12.0, 0.0)).tone_hz, None);
        assert_eq!(measure(&[0; FRAME_SAMPLES]).tone_hz, None);
        assert_eq!(measure(&sine(450.0, -50.0, -90.0, 0.0)).tone_hz, None);
        for (a, b) in [(697.0, 1209.0), (350.0, 440.0), (480.0, 620.0), (941.0, 1633.0)] {
            let other = sine(b, -15.0, -90.0, 0.0);
            let mut sum = sine(a, -15.0, -90.0, 0.0);
            sum.iter_mut().zip(other).for_each(|(sample, other)| *sample += other);
            assert_eq!(measure(&sum).tone_hz, None, "{a} {b}");
        }
    }

    #[test]
    fn any_audio_is_measured_without_panic() {
        for pattern in 0..6u32 {
            let _heard = measure(&std::array::from_fn(|at| match pattern {
                0 => i16::MAX,
                1 => i16::MIN,
                2 => [i16::MAX, i16::MIN][at % 2],
                3 => [i16::MAX, 0, i16::MIN, 0][at % 4],
                4 => at as i16,
                _ => i16::from(at == 0) * 30_000,
            }));
        }
    }
}
