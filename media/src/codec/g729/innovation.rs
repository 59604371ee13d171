//! The fixed codebook: four pulses of ±1, found by the depth-first search of annex A. Clauses
//! 3.8, A.3.8 and 4.1.4.

use super::filter::dot;
use super::{SUBFRAME, Subframe};

/// Distance between the positions of a pulse.
const STEP: usize = 5;

/// Bounds of the gain with which a pulse is repeated at the pitch delay.
const MIN_SHARPENING: f32 = 0.2;
const MAX_SHARPENING: f32 = 0.8;

/// How pulses are repeated within a subframe that is longer than the pitch delay.
#[derive(Clone, Copy, Debug)]
pub struct Sharpening {
    gain: f32,
}

impl Default for Sharpening {
    fn default() -> Self {
        Self { gain: MIN_SHARPENING }
    }
}

impl Sharpening {
    /// By the pitch gain of the former subframe.
    pub fn of(pitch_gain: f32) -> Self {
        Self { gain: pitch_gain.clamp(MIN_SHARPENING, MAX_SHARPENING) }
    }

    /// Adds the repetition.
    pub fn apply(self, signal: &mut Subframe, delay: usize) {
        for index in delay..SUBFRAME {
            signal[index] += self.gain * signal[index - delay];
        }
    }
}

/// What is sent of the pulses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// 13 bits.
    pub positions: u16,
    /// 4 bits.
    pub signs: u8,
}

/// The pulses that were sent.
pub fn decode(codes: Codes) -> Subframe {
    let field = |shift: u16| usize::from(codes.positions >> shift & 7) * STEP;
    let last = field(10) + 3 + usize::from(codes.positions >> 9 & 1);
    let mut vector = [0.0; SUBFRAME];
    for (index, at) in [field(0), field(3) + 1, field(6) + 2, last].into_iter().enumerate() {
        vector[at] += if codes.signs >> index & 1 == 1 { 1.0 } else { -1.0 };
    }
    vector
}

/// Finds the pulses that, filtered by `response`, are most like `target`.
pub fn encode(target: &Subframe, response: &Subframe) -> Codes {
    let search = Search::new(target, response);
    let mut best = (f32::MIN, [0; 4]);
    for last in [3, 4] {
        // Pairs of tracks: the second pair is searched where the first was found.
        for tracks in [[2, last, 0, 1], [last, 0, 1, 2]] {
            let found = search.depth_first(tracks);
            if found.0 > best.0 {
                best = found;
            }
        }
    }
    let mut pulses = best.1;
    pulses.sort_unstable_by_key(|at| (at % STEP).min(3));
    let [a, b, c, d] = pulses.map(|at| (at / STEP) as u16);
    let second_track = u16::from(pulses[3] % STEP == 4);
    let positions = a | b << 3 | c << 6 | second_track << 9 | d << 10;
    let signs = pulses
        .iter()
        .enumerate()
        .fold(0, |signs, (index, at)| signs | u8::from(search.correlation[*at] >= 0.0) << index);
    Codes { positions, signs }
}

struct Search {
    /// Of target and response: its sign is the sign of a pulse, its size what it contributes.
    correlation: Subframe,
    /// Of the response with itself, with the signs of both pulses.
    energy: [Subframe; SUBFRAME],
}

/// A choice of pulses while it grows.
#[derive(Clone, Copy)]
struct Choice {
    correlation: f32,
    energy: f32,
}

impl Choice {
    /// What the search maximises.
    fn merit(self) -> f32 {
        self.correlation * self.correlation / self.energy.max(1e-3)
    }
}

impl Search {
    fn new(target: &Subframe, response: &Subframe) -> Self {
        let correlation: Subframe =
            std::array::from_fn(|at| dot(&target[at..], &response[..SUBFRAME - at]));
        let mut energy = [[0.0; SUBFRAME]; SUBFRAME];
        for lag in 0..SUBFRAME {
            let mut sum = 0.0;
            for at in (lag..SUBFRAME).rev() {
                let from_end = SUBFRAME - 1 - at;
                sum += response[from_end] * response[from_end + lag];
                let signed = if correlation[at] * correlation[at - lag] < 0.0 { -sum } else { sum };
                energy[at][at - lag] = signed;
                energy[at - lag][at] = signed;
            }
        }
        Self { correlation, energy }
    }

    fn add(&self, choice: Choice, pulses: &[usize], at: usize) -> Choice {
        let row = &self.energy[at];
        let others: f32 = pulses.iter().map(|other| row[*other]).sum();
        Choice {
            correlation: choice.correlation + self.correlation[at].abs(),
            energy: choice.energy + row[at] + 2.0 * others,
        }
    }

    fn depth_first(&self, tracks: [usize; 4]) -> (f32, [usize; 4]) {
        let none = Choice { correlation: 0.0, energy: 0.0 };
        let mut first = (f32::MIN, none, [0; 2]);
        for a in self.two_largest(tracks[0]) {
            let with_a = self.add(none, &[], a);
            for b in (tracks[1]..SUBFRAME).step_by(STEP) {
                let choice = self.add(with_a, &[a], b);
                if choice.merit() > first.0 {
                    first = (choice.merit(), choice, [a, b]);
                }
            }
        }
        let [a, b] = first.2;
        let mut best = (f32::MIN, [0; 4]);
        for c in (tracks[2]..SUBFRAME).step_by(STEP) {
            let with_c = self.add(first.1, &[a, b], c);
            for d in (tracks[3]..SUBFRAME).step_by(STEP) {
                let merit = self.add(with_c, &[a, b, c], d).merit();
                if merit > best.0 {
                    best = (merit, [a, b, c, d]);
                }
            }
        }
        best
    }

    fn two_largest(&self, track: usize) -> [usize; 2] {
        let size = |at: usize| self.correlation[at].abs();
        let mut largest = [track, track + STEP];
        if size(largest[1]) > size(largest[0]) {
            largest.swap(0, 1);
        }
        for at in (track + 2 * STEP..SUBFRAME).step_by(STEP) {
            if size(at) > size(largest[0]) {
                largest = [at, largest[0]];
            } else if size(at) > size(largest[1]) {
                largest[1] = at;
            }
        }
        largest
    }
}
