//! The postfilter of annex A: clause A.4.2.

use super::filter::{Synthesis, dot, residual, widen};
use super::{Lpc, MAX_DELAY, ORDER, SUBFRAME, Subframe};

/// Widening of the zeros and the poles of the short-term filter.
const ZEROS: f32 = 0.55;
const POLES: f32 = 0.7;

/// Weight of the repetition at the pitch delay.
const PITCH_WEIGHT: f32 = 0.5;

/// Compensation of the tilt that the short-term filter adds.
const TILT: f32 = 0.8;

/// Samples of the impulse response in which the tilt is measured.
const TILT_RESPONSE: usize = 22;

/// How much of its former value the gain keeps from sample to sample.
const GAIN_INERTIA: f32 = 0.9;

/// The filter of a stream.
#[derive(Debug)]
pub struct Postfilter {
    /// Output of the decoder, for the residual.
    speech: [f32; ORDER],
    residuals: [f32; MAX_DELAY + SUBFRAME],
    synthesis: Synthesis,
    tilt: f32,
    gain: f32,
}

impl Default for Postfilter {
    fn default() -> Self {
        Self {
            speech: [0.0; ORDER],
            residuals: [0.0; MAX_DELAY + SUBFRAME],
            synthesis: Synthesis::default(),
            tilt: 0.0,
            gain: 1.0,
        }
    }
}

impl Postfilter {
    /// Filters a subframe; `delay` is None where there is no pitch.
    pub fn filter(&mut self, speech: &Subframe, lpc: &Lpc, delay: Option<usize>) -> Subframe {
        let (zeros, poles) = (widen(lpc, ZEROS), widen(lpc, POLES));
        let mut signal = [0.0; ORDER + SUBFRAME];
        signal[..ORDER].copy_from_slice(&self.speech);
        signal[ORDER..].copy_from_slice(speech);
        self.speech.copy_from_slice(&signal[SUBFRAME..]);

        self.residuals.copy_within(SUBFRAME.., 0);
        self.residuals[MAX_DELAY..].copy_from_slice(&residual(&zeros, &signal));
        let mut filtered = match delay {
            Some(delay) => self.stress_pitch(delay),
            None => std::array::from_fn(|at| self.residuals[MAX_DELAY + at]),
        };
        let tilt = tilt_of(&zeros, &poles);
        for sample in &mut filtered {
            let input = *sample;
            *sample -= tilt * self.tilt;
            self.tilt = input;
        }
        let mut filtered = self.synthesis.filter(&poles, &filtered);
        self.level(speech, &mut filtered);
        filtered
    }

    /// The long-term filter: adds the residual at the delay at which it is most like itself.
    fn stress_pitch(&self, delay: usize) -> Subframe {
        let present = &self.residuals[MAX_DELAY..];
        let past = |delay: usize| &self.residuals[MAX_DELAY - delay..][..SUBFRAME];
        let centre = delay.min(MAX_DELAY - 3);
        let candidates =
            (centre.saturating_sub(3)..=centre + 3).map(|delay| (delay, dot(present, past(delay))));
        let (delay, likeness) = candidates
            .fold((centre, f32::MIN), |best, next| if next.1 > best.1 { next } else { best });
        let energy = dot(past(delay), past(delay));
        let present_energy = dot(present, present);
        // Below 3 dB of prediction gain there is no pitch worth stressing.
        let worth = likeness > 0.0 && likeness * likeness >= 0.5 * energy * present_energy;
        let gain = if worth && energy > 0.0 { (likeness / energy).min(1.0) } else { 0.0 };
        let weight = PITCH_WEIGHT * gain;
        let scale = 1.0 / (1.0 + weight);
        std::array::from_fn(|at| scale * (present[at] + weight * past(delay)[at]))
    }

    /// Gives the filtered subframe the level it had before, without a step.
    fn level(&mut self, speech: &Subframe, filtered: &mut Subframe) {
        let (before, after) = (dot(speech, speech), dot(filtered, filtered));
        let wanted = if after > 0.0 { (before / after).sqrt() } else { 0.0 };
        for sample in filtered {
            self.gain = GAIN_INERTIA * self.gain + (1.0 - GAIN_INERTIA) * wanted;
            *sample *= self.gain;
        }
    }
}

/// What of the former sample is taken away so that the filter does not muffle.
fn tilt_of(zeros: &Lpc, poles: &Lpc) -> f32 {
    let mut impulse = [0.0; SUBFRAME];
    impulse[..=ORDER].copy_from_slice(zeros);
    let response = Synthesis::default().filter(poles, &impulse);
    let response = &response[..TILT_RESPONSE];
    let energy = dot(response, response);
    let neighbours = dot(&response[1..], &response[..TILT_RESPONSE - 1]);
    if neighbours > 0.0 { TILT * neighbours / energy } else { 0.0 }
}
