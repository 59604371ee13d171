//! G.729 with annex A at 8 kbit/s (CS-ACELP), and the silence descriptors of annex B, from the
//! Recommendation's text in floating point as its annex C allows. Both directions speak with any
//! other G.729; neither is meant to be bit-exact. We send no silence descriptors.
//!
//! A frame is 10 ms. Signals are at half their amplitude inside, as clause 3.1 has it.

mod bits;
mod comfort;
mod decoder;
mod encoder;
mod excitation;
mod filter;
mod gain;
mod innovation;
mod lpc;
mod lsf;
mod pitch;
mod postfilter;
mod tables;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// Samples in a frame and in each of its two subframes.
pub const FRAME: usize = 80;
const SUBFRAME: usize = 40;

/// Order of the linear prediction.
const ORDER: usize = 10;

/// Coefficients of the predictor, the first of them 1.
type Lpc = [f32; ORDER + 1];

/// Line spectral pairs (cosines) or frequencies (radians).
type Lsp = [f32; ORDER];

/// Signal of a subframe.
type Subframe = [f32; SUBFRAME];

/// Pitch delays in samples.
const MIN_DELAY: usize = 20;
const MAX_DELAY: usize = 143;

#[cfg(test)]
mod tests;
