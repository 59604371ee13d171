//! The encoder: clause A.3.

use super::bits::{FrameCodes, SubframeCodes, parity};
use super::excitation::{Delay, Excitation};
use super::filter::{Biquad, Synthesis, convolve, dot, residual, widen};
use super::innovation::{self, Sharpening};
use super::lpc::{self, WINDOW};
use super::lsf::{self, Quantiser};
use super::pitch::{self, OPEN_LOOP, Range, Taming};
use super::{FRAME, Lpc, Lsp, MAX_DELAY, ORDER, SUBFRAME, Subframe, gain};

/// Weight of errors where the spectrum peaks, γ of equation A.2.
const GAMMA: f32 = 0.75;

/// Low-pass of the weighted speech in which the open loop searches, clause A.3.4.
const OPEN_LOOP_TILT: f32 = 0.7;

/// Where the frame begins in the analysis window: 5 ms of what follows it are known.
const FRAME_START: usize = 120;

/// Encodes a stream.
#[derive(Debug)]
pub struct Encoder {
    high_pass: Biquad,
    speech: [f32; WINDOW],
    lsp: Lsp,
    quantised_lsp: Lsp,
    quantiser: Quantiser,
    weighted: [f32; OPEN_LOOP],
    open_loop_weighting: Synthesis,
    excitation: Excitation,
    /// The weighted error of what was sent so far.
    error: Synthesis,
    sharpening: Sharpening,
    gains: gain::Predictor,
    taming: Taming,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            high_pass: Biquad::before_encoding(),
            speech: [0.0; WINDOW],
            lsp: lpc::flat_lsp(),
            quantised_lsp: lpc::flat_lsp(),
            quantiser: Quantiser::default(),
            weighted: [0.0; OPEN_LOOP],
            open_loop_weighting: Synthesis::default(),
            excitation: Excitation::default(),
            error: Synthesis::default(),
            sharpening: Sharpening::default(),
            gains: gain::Predictor::default(),
            taming: Taming::default(),
        }
    }
}

impl Encoder {
    /// Encodes 10 ms.
    pub fn encode(&mut self, pcm: &[i16; FRAME]) -> [u8; 10] {
        self.speech.copy_within(FRAME.., 0);
        for (sample, input) in self.speech[WINDOW - FRAME..].iter_mut().zip(pcm) {
            *sample = self.high_pass.filter(f32::from(*input));
        }
        let (frequencies, predictors) = self.encode_spectrum();
        let residuals = [0, SUBFRAME].map(|start| {
            let lpc = &predictors[start / SUBFRAME];
            residual(lpc, &self.speech[FRAME_START + start - ORDER..])
        });
        let open_loop = self.open_loop(&predictors, &residuals);

        self.excitation.advance();
        let mut codes = FrameCodes {
            predictor: frequencies.predictor,
            first: frequencies.first,
            second: frequencies.second,
            ..FrameCodes::default()
        };
        let mut range = Range::of_first(open_loop);
        for index in 0..2 {
            let (delay, subframe) =
                self.encode_subframe(index, range, &predictors[index], &residuals[index]);
            codes.subframes[index] = subframe;
            if index == 0 {
                codes.subframes[0].delay = pitch::encode_first(delay);
                range = Range::of_second(delay);
            } else {
                codes.subframes[1].delay = pitch::encode_second(delay, range);
            }
        }
        codes.parity = parity(codes.subframes[0].delay);
        codes.pack()
    }

    /// Finds and quantises the spectrum; the quantised predictors are those of both subframes.
    fn encode_spectrum(&mut self) -> (lsf::Codes, [Lpc; 2]) {
        let predictor = lpc::analyse(&self.speech);
        self.lsp = lpc::to_lsp(&predictor).unwrap_or(self.lsp);
        let codes = self.quantiser.encode(&self.lsp.map(f32::acos));
        let quantised = self.quantiser.decode(codes).map(f32::cos);
        let predictors = lpc::interpolate(&self.quantised_lsp, &quantised);
        self.quantised_lsp = quantised;
        (codes, predictors)
    }

    /// The delay around which both subframes are searched.
    fn open_loop(&mut self, predictors: &[Lpc; 2], residuals: &[Subframe; 2]) -> usize {
        self.weighted.copy_within(FRAME.., 0);
        for (index, (lpc, residual)) in predictors.iter().zip(residuals).enumerate() {
            let widened = widen(lpc, GAMMA);
            let mut low_pass = widened;
            for tap in 1..=ORDER {
                low_pass[tap] = widened[tap] - OPEN_LOOP_TILT * widened[tap - 1];
            }
            let weighted = self.open_loop_weighting.filter(&low_pass, residual);
            let start = MAX_DELAY + index * SUBFRAME;
            self.weighted[start..start + SUBFRAME].copy_from_slice(&weighted);
        }
        pitch::open_loop(&self.weighted)
    }

    fn encode_subframe(
        &mut self,
        index: usize,
        range: Range,
        lpc: &Lpc,
        residual: &Subframe,
    ) -> (Delay, SubframeCodes) {
        let start = index * SUBFRAME;
        let weighting = widen(lpc, GAMMA);
        let mut response = Synthesis::default().filter(&weighting, &impulse());
        let target = self.error.clone().filter(&weighting, residual);

        let (delay, adaptive, filtered_adaptive) =
            pitch::closed_loop(&mut self.excitation, start, range, index == 1, &target, &response);
        let max_gain = self.taming.max_gain(delay);
        let energy = dot(&filtered_adaptive, &filtered_adaptive).max(1e-3);
        let gain = (dot(&target, &filtered_adaptive) / energy).clamp(0.0, max_gain);

        let mut fixed_target = target;
        for (sample, adaptive) in fixed_target.iter_mut().zip(&filtered_adaptive) {
            *sample -= gain * adaptive;
        }
        self.sharpening.apply(&mut response, delay.whole);
        let pulses = innovation::encode(&fixed_target, &response);
        let mut fixed = innovation::decode(pulses);
        let filtered_fixed = convolve(&fixed, &response);
        self.sharpening.apply(&mut fixed, delay.whole);

        let (gain_codes, gains) =
            self.gains.encode(&fixed, &target, &filtered_adaptive, &filtered_fixed, max_gain);
        self.sharpening = Sharpening::of(gains.pitch);
        self.taming.note(gains.pitch, delay);

        let mix = |a: &Subframe, b: &Subframe| -> Subframe {
            std::array::from_fn(|at| gains.pitch * a[at] + gains.fixed * b[at])
        };
        self.excitation.set(start, &mix(&adaptive, &fixed));
        let sent = mix(&filtered_adaptive, &filtered_fixed);
        let errors: Subframe = std::array::from_fn(|at| target[at] - sent[at]);
        self.error = Synthesis::after(&errors);
        let codes = SubframeCodes {
            delay: 0,
            positions: pulses.positions,
            signs: pulses.signs,
            gains: gain_codes,
        };
        (delay, codes)
    }
}

fn impulse() -> Subframe {
    let mut impulse = [0.0; SUBFRAME];
    impulse[0] = 1.0;
    impulse
}
