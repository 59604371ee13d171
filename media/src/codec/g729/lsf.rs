//! Quantisation of the line spectral frequencies: clauses 3.2.4 and B.4.2.2.

use std::f32::consts::PI;

use super::bits::SilenceCodes;
use super::tables::{LSF_FIRST, LSF_PREDICTORS, LSF_SECOND, SILENCE_FIRST, SILENCE_SECOND};
use super::{Lsp, ORDER};

/// Least distances to which the output of the codebooks is spread.
const SPREADS: [f32; 2] = [0.0012, 0.0006];

/// Bounds of the frequencies and of the distance between two.
const LOWEST: f32 = 0.005;
const HIGHEST: f32 = 3.135;
const MIN_DISTANCE: f32 = 0.0391;

/// What is sent of the frequencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// Predictor.
    pub predictor: u8,
    /// First stage.
    pub first: u8,
    /// Second stage of the lower and the higher five.
    pub second: [u8; 2],
}

type Predictor = [[f32; ORDER]; 4];

/// The last outputs of the codebooks, from which the next frequencies are predicted.
#[derive(Clone, Debug)]
pub struct Quantiser {
    past: [Lsp; 4],
    predictor: Predictor,
    frequencies: Lsp,
}

impl Default for Quantiser {
    fn default() -> Self {
        let flat = std::array::from_fn(|index| PI * (index + 1) as f32 / 11.0);
        Self { past: [flat; 4], predictor: predictor(0), frequencies: flat }
    }
}

impl Quantiser {
    /// The frequencies that were sent.
    pub fn decode(&mut self, codes: Codes) -> Lsp {
        let [low, high] = codes.second;
        self.take(codebook(codes.first, low, high), predictor(codes.predictor))
    }

    /// The frequencies of a silence descriptor.
    pub fn decode_silence(&mut self, codes: SilenceCodes) -> Lsp {
        let second = usize::from(codes.second);
        let [low, high] = SILENCE_SECOND.map(|subset| subset[second]);
        let output = codebook(SILENCE_FIRST[usize::from(codes.first)], low, high);
        self.take(output, silence_predictor(codes.predictor))
    }

    /// The former frequencies, in place of those of a lost frame.
    pub fn conceal(&mut self) -> Lsp {
        let output = self.unpredict(&self.frequencies, &self.predictor);
        self.push(output);
        self.frequencies
    }

    /// Chooses codes for frequencies.
    pub fn encode(&self, frequencies: &Lsp) -> Codes {
        let weights = weights(frequencies);
        let candidates = [0, 1].map(|mode| self.search(mode, frequencies, &weights));
        let [a, b] = candidates;
        if a.1 <= b.1 { a.0 } else { b.0 }
    }

    /// The best codes for one predictor, and their weighted error.
    fn search(&self, mode: u8, frequencies: &Lsp, weights: &Lsp) -> (Codes, f32) {
        let predictor = predictor(mode);
        let target = self.unpredict(frequencies, &predictor);
        let first = best(LSF_FIRST.len(), |index| {
            let entry = &LSF_FIRST[index];
            target.iter().zip(entry).map(|(target, entry)| (target - q13(*entry)).powi(2)).sum()
        });
        let base = LSF_FIRST[usize::from(first)];
        let mut second = [0; 2];
        for (half, code) in second.iter_mut().enumerate() {
            let range = half * ORDER / 2..(half + 1) * ORDER / 2;
            *code = best(LSF_SECOND.len(), |index| {
                let error = |at: usize| {
                    let value = q13(base[at]) + q13(LSF_SECOND[index][at]);
                    weights[at] * (target[at] - value).powi(2)
                };
                range.clone().map(error).sum()
            });
        }
        let codes = Codes { predictor: mode, first, second };
        let mut trial = self.clone();
        let quantised = trial.decode(codes);
        let errors = frequencies.iter().zip(&quantised).zip(weights);
        (codes, errors.map(|((a, b), weight)| weight * (a - b).powi(2)).sum())
    }

    /// What the codebooks must give so that the prediction leads to these frequencies.
    fn unpredict(&self, frequencies: &Lsp, predictor: &Predictor) -> Lsp {
        std::array::from_fn(|at| {
            let (predicted, weight) = self.predict(at, predictor);
            (frequencies[at] - predicted) / weight
        })
    }

    /// What is predicted of a frequency, and the weight of what the codebooks add.
    fn predict(&self, at: usize, predictor: &Predictor) -> (f32, f32) {
        let past = self.past.iter().zip(predictor);
        past.fold((0.0, 1.0), |(predicted, rest), (past, weights)| {
            (predicted + weights[at] * past[at], rest - weights[at])
        })
    }

    fn take(&mut self, mut output: Lsp, predictor: Predictor) -> Lsp {
        for distance in SPREADS {
            spread(&mut output, distance);
        }
        self.predictor = predictor;
        let mut frequencies = std::array::from_fn(|at| {
            let (predicted, weight) = self.predict(at, &predictor);
            predicted + weight * output[at]
        });
        self.push(output);
        stabilise(&mut frequencies);
        self.frequencies = frequencies;
        frequencies
    }

    fn push(&mut self, output: Lsp) {
        self.past.copy_within(..3, 1);
        self.past[0] = output;
    }
}

fn q13(value: i16) -> f32 {
    f32::from(value) / 8192.0
}

fn codebook(first: u8, low: u8, high: u8) -> Lsp {
    std::array::from_fn(|at| {
        let second = if at < ORDER / 2 { low } else { high };
        q13(LSF_FIRST[usize::from(first)][at]) + q13(LSF_SECOND[usize::from(second)][at])
    })
}

fn predictor(mode: u8) -> Predictor {
    LSF_PREDICTORS[usize::from(mode)].map(|ages| ages.map(|weight| f32::from(weight) / 32768.0))
}

/// The second predictor of silence is a mixture of the two of speech.
fn silence_predictor(mode: u8) -> Predictor {
    let [first, second] = [predictor(0), predictor(1)];
    if mode == 0 {
        return first;
    }
    std::array::from_fn(|age| {
        std::array::from_fn(|at| 0.6 * first[age][at] + 0.4 * second[age][at])
    })
}

fn best(count: usize, error: impl Fn(usize) -> f32) -> u8 {
    let errors = (0..count).map(|index| (index, error(index)));
    let best = errors.fold((0, f32::MAX), |best, next| if next.1 < best.1 { next } else { best });
    best.0 as u8
}

/// Frequencies near to each other, where the spectrum peaks, weigh more: equation 22.
fn weights(frequencies: &Lsp) -> Lsp {
    std::array::from_fn(|at| {
        let room = match at {
            0 => frequencies[1] - 0.04 * PI - 1.0,
            9 => 0.92 * PI - 1.0 - frequencies[8],
            _ => frequencies[at + 1] - frequencies[at - 1] - 1.0,
        };
        let weight = if room > 0.0 { 1.0 } else { 10.0 * room * room + 1.0 };
        if at == 4 || at == 5 { 1.2 * weight } else { weight }
    })
}

fn spread(output: &mut Lsp, distance: f32) {
    for at in 1..ORDER {
        let overlap = output[at - 1] - output[at] + distance;
        if overlap > 0.0 {
            output[at - 1] -= 0.5 * overlap;
            output[at] += 0.5 * overlap;
        }
    }
}

fn stabilise(frequencies: &mut Lsp) {
    frequencies.sort_unstable_by(f32::total_cmp);
    frequencies[0] = frequencies[0].max(LOWEST);
    for at in 1..ORDER {
        frequencies[at] = frequencies[at].max(frequencies[at - 1] + MIN_DISTANCE);
    }
    frequencies[9] = frequencies[9].min(HIGHEST);
}
