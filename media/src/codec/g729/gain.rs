//! Gains of the two codebooks: clause 3.9.

use super::filter::dot;
use super::tables::{ENERGY_PREDICTOR, GAIN_FIRST, GAIN_FIRST_SENT, GAIN_SECOND, GAIN_SECOND_SENT};
use super::{SUBFRAME, Subframe};

/// Mean energy of the fixed codebook's contribution.
const MEAN_DB: f32 = 30.0;

/// The quantised prediction errors begin with this, and never fall below it in concealment.
const LOWEST_DB: f32 = -14.0;

/// Prediction of the fixed gain from the last four subframes.
#[derive(Debug)]
pub struct Predictor {
    errors_db: [f32; 4],
}

impl Default for Predictor {
    fn default() -> Self {
        Self { errors_db: [LOWEST_DB; 4] }
    }
}

/// The gain of the adaptive codebook and that of the fixed one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gains {
    /// Of the adaptive codebook.
    pub pitch: f32,
    /// Of the fixed codebook.
    pub fixed: f32,
}

impl Predictor {
    /// The fixed gain that is expected for a code vector.
    fn predict(&self, code: &Subframe) -> f32 {
        let energy_db = 10.0 * (dot(code, code) / SUBFRAME as f32).max(1e-3).log10();
        let predicted_db = dot(&self.errors_db, &ENERGY_PREDICTOR);
        10_f32.powf((predicted_db + MEAN_DB - energy_db) / 20.0)
    }

    fn push(&mut self, error_db: f32) {
        self.errors_db.copy_within(..3, 1);
        self.errors_db[0] = error_db;
    }

    /// The gains that were sent for a code vector.
    pub fn decode(&mut self, codes: [u8; 2], code: &Subframe) -> Gains {
        let index = |sent: &[u8], code: u8| sent.iter().position(|sent| *sent == code);
        let first = index(&GAIN_FIRST_SENT, codes[0]).unwrap_or_default();
        let second = index(&GAIN_SECOND_SENT, codes[1]).unwrap_or_default();
        let (pitch, correction) = entry(first, second);
        let fixed = self.predict(code) * correction;
        self.push(20.0 * correction.log10());
        Gains { pitch, fixed }
    }

    /// Notes a subframe whose gains are lost, clause 4.4.3.
    pub fn conceal(&mut self) {
        let mean_db = self.errors_db.iter().sum::<f32>() / 4.0;
        self.push((mean_db - 4.0).max(LOWEST_DB));
    }

    /// Chooses the gains that bring `adaptive` and `fixed` nearest to `target`, all of them as
    /// they are after the weighting filter.
    pub fn encode(
        &mut self,
        code: &Subframe,
        target: &Subframe,
        adaptive: &Subframe,
        fixed: &Subframe,
        max_pitch: f32,
    ) -> ([u8; 2], Gains) {
        let predicted = self.predict(code);
        let (aa, ff, af) = (dot(adaptive, adaptive), dot(fixed, fixed), dot(adaptive, fixed));
        let (ta, tf) = (dot(target, adaptive), dot(target, fixed));
        let mut best = (f32::MAX, 0, 0);
        for first in 0..GAIN_FIRST.len() {
            for second in 0..GAIN_SECOND.len() {
                let (p, correction) = entry(first, second);
                let g = predicted * correction;
                let error = p * p * aa + g * g * ff + 2.0 * (p * g * af - p * ta - g * tf);
                if error < best.0 && p <= max_pitch {
                    best = (error, first, second);
                }
            }
        }
        let codes = [GAIN_FIRST_SENT[best.1], GAIN_SECOND_SENT[best.2]];
        (codes, self.decode(codes, code))
    }
}

/// Pitch gain and correction of the fixed gain.
fn entry(first: usize, second: usize) -> (f32, f32) {
    let [a, b] = [GAIN_FIRST[first], GAIN_SECOND[second]];
    let pitch = f32::from(a[0]) + f32::from(b[0]);
    let correction = f32::from(a[1]) + f32::from(b[1]);
    (pitch / 16384.0, correction / 8192.0)
}
