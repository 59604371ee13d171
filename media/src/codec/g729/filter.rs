//! Filters that both directions use.

use super::{Lpc, ORDER, SUBFRAME, Subframe};

/// A second-order section.
#[derive(Debug)]
pub struct Biquad {
    numerator: [f32; 3],
    denominator: [f32; 2],
    inputs: [f32; 2],
    outputs: [f32; 2],
}

impl Biquad {
    /// The high-pass of 140 Hz before encoding, which also halves the amplitude: clause 3.1.
    pub fn before_encoding() -> Self {
        Self::new([0.463_637_18, -0.927_247_05, 0.463_637_18], [-1.905_946_5, 0.911_402_4])
    }

    /// The high-pass of 100 Hz after decoding, which also doubles the amplitude: clause 4.2.5.
    pub fn after_decoding() -> Self {
        let gain = 2.0;
        let numerator = [0.939_805_8, -1.879_583_4, 0.939_805_8].map(|value| gain * value);
        Self::new(numerator, [-1.933_073_5, 0.935_892])
    }

    fn new(numerator: [f32; 3], denominator: [f32; 2]) -> Self {
        Self { numerator, denominator, inputs: [0.0; 2], outputs: [0.0; 2] }
    }

    /// Filters a sample.
    pub fn filter(&mut self, input: f32) -> f32 {
        let output = self.numerator[0] * input
            + self.numerator[1] * self.inputs[0]
            + self.numerator[2] * self.inputs[1]
            - self.denominator[0] * self.outputs[0]
            - self.denominator[1] * self.outputs[1];
        self.inputs = [input, self.inputs[0]];
        self.outputs = [output, self.outputs[0]];
        output
    }
}

/// The coefficients of A(z/γ).
pub fn widen(lpc: &Lpc, gamma: f32) -> Lpc {
    let mut weight = 1.0;
    lpc.map(|coefficient| {
        let widened = coefficient * weight;
        weight *= gamma;
        widened
    })
}

/// Filters the subframe that follows the first ten samples of `signal` by A(z).
pub fn residual(lpc: &Lpc, signal: &[f32]) -> Subframe {
    let mut out = [0.0; SUBFRAME];
    for (sample, window) in out.iter_mut().zip(signal.windows(ORDER + 1)) {
        *sample = window.iter().rev().zip(lpc).map(|(signal, lpc)| signal * lpc).sum();
    }
    out
}

/// An all-pole filter 1/A(z).
#[derive(Clone, Debug, Default)]
pub struct Synthesis {
    /// Last outputs, newest first.
    past: [f32; ORDER],
}

impl Synthesis {
    /// A filter with these last outputs, newest last.
    pub fn after(outputs: &[f32]) -> Self {
        let mut past = [0.0; ORDER];
        for (past, output) in past.iter_mut().zip(outputs.iter().rev()) {
            *past = *output;
        }
        Self { past }
    }

    /// Filters a subframe.
    pub fn filter(&mut self, lpc: &Lpc, input: &Subframe) -> Subframe {
        let mut buffer = [0.0; ORDER + SUBFRAME];
        for (slot, past) in buffer[..ORDER].iter_mut().rev().zip(&self.past) {
            *slot = *past;
        }
        for (index, input) in input.iter().enumerate() {
            let past = buffer[index..index + ORDER].iter().rev();
            let predicted: f32 = past.zip(&lpc[1..]).map(|(past, lpc)| past * lpc).sum();
            buffer[index + ORDER] = input - predicted;
        }
        *self = Self::after(&buffer[SUBFRAME..]);
        let mut out = [0.0; SUBFRAME];
        out.copy_from_slice(&buffer[ORDER..]);
        out
    }
}

/// The first samples of `signal` passed through a filter with impulse response `response`.
pub fn convolve(signal: &Subframe, response: &Subframe) -> Subframe {
    let mut out = [0.0; SUBFRAME];
    for (index, sample) in signal.iter().enumerate() {
        for (out, response) in out[index..].iter_mut().zip(response) {
            *out += sample * response;
        }
    }
    out
}

/// The inner product.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
