//! Comfort noise of annex B: clause B.4.4, with white noise in place of its mixture of codebooks.

use super::bits::SilenceCodes;
use super::tables::SILENCE_GAIN;
use super::{SUBFRAME, Subframe};

/// How much of its former value the level keeps from frame to frame.
const INERTIA: f32 = 0.875;

/// The excitation of a silent far end.
#[derive(Debug)]
pub struct Comfort {
    seed: u32,
    rms: f32,
    wanted_rms: f32,
}

impl Default for Comfort {
    fn default() -> Self {
        Self { seed: 11_111, rms: 0.0, wanted_rms: 0.0 }
    }
}

impl Comfort {
    /// Takes the level of a descriptor; that of the first after speech holds at once.
    pub fn set(&mut self, codes: SilenceCodes, after_speech: bool) {
        self.wanted_rms = f32::from(SILENCE_GAIN[usize::from(codes.gain)]) / 8.0;
        if after_speech {
            self.rms = self.wanted_rms;
        }
    }

    /// Begins a frame.
    pub fn advance(&mut self) {
        self.rms = INERTIA * self.rms + (1.0 - INERTIA) * self.wanted_rms;
    }

    /// The excitation of a subframe.
    pub fn subframe(&mut self) -> Subframe {
        let mut noise = [0.0; SUBFRAME];
        // Evenly distributed noise of amplitude A has a mean square of A²/3.
        let amplitude = self.rms * 3_f32.sqrt();
        for sample in &mut noise {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = amplitude * (self.seed.cast_signed() as f32 / -(i32::MIN as f32));
        }
        noise
    }
}
