//! The past excitation, and what the adaptive codebook takes from it: clause 3.7.1.

use super::tables::INTERPOLATION;
use super::{FRAME, MAX_DELAY, SUBFRAME, Subframe};

/// Half the length of the interpolation, in samples.
const REACH: usize = 10;

/// Samples of the past that a delay reaches.
const PAST: usize = MAX_DELAY + REACH + 1;

/// A pitch delay in thirds of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Whole samples, to which the thirds are added.
    pub whole: usize,
    /// -1, 0 or 1.
    pub thirds: i8,
}

impl Delay {
    /// A whole delay.
    pub fn whole(whole: usize) -> Self {
        Self { whole, thirds: 0 }
    }

    /// The nearest whole delay, and what is left.
    pub fn of_thirds(thirds: usize) -> Self {
        let whole = (thirds + 1) / 3;
        Self { whole, thirds: (thirds + 1 - 3 * whole) as i8 - 1 }
    }

    /// The whole of it in thirds of a sample.
    pub fn in_thirds(self) -> usize {
        3 * self.whole + usize::from(self.thirds > 0) - usize::from(self.thirds < 0)
    }
}

/// The excitation of a frame and of its past.
#[derive(Debug)]
pub struct Excitation {
    samples: [f32; PAST + FRAME],
}

impl Default for Excitation {
    fn default() -> Self {
        Self { samples: [0.0; PAST + FRAME] }
    }
}

impl Excitation {
    /// Makes room for the next frame.
    pub fn advance(&mut self) {
        self.samples.copy_within(FRAME.., 0);
    }

    /// Sets a subframe that begins at `start` in the frame.
    pub fn set(&mut self, start: usize, subframe: &Subframe) {
        self.samples[PAST + start..][..SUBFRAME].copy_from_slice(subframe);
    }

    /// A subframe.
    pub fn subframe(&self, start: usize) -> Subframe {
        let mut out = [0.0; SUBFRAME];
        out.copy_from_slice(&self.samples[PAST + start..][..SUBFRAME]);
        out
    }

    /// Writes the past at a delay into the subframe and returns it. A delay shorter than the
    /// subframe repeats what has just been written.
    pub fn repeat(&mut self, start: usize, delay: Delay) -> Subframe {
        let third = match delay.thirds {
            0 => 0,
            thirds if thirds < 0 => 1,
            _ => 2,
        };
        let whole = delay.whole + usize::from(delay.thirds > 0);
        let first = PAST + start;
        for index in 0..SUBFRAME {
            let at = first + index - whole;
            let mut sum = 0.0;
            for tap in 0..REACH {
                sum += self.samples[at - tap] * f32::from(INTERPOLATION[third + 3 * tap]);
                sum += self.samples[at + 1 + tap] * f32::from(INTERPOLATION[3 - third + 3 * tap]);
            }
            self.samples[first + index] = sum / 32768.0;
        }
        self.subframe(start)
    }
}
