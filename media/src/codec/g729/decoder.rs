//! The decoder: clause A.4, with the concealment of clause 4.4 and the comfort noise of annex B.

use super::bits::{FrameCodes, SilenceCodes, SubframeCodes};
use super::comfort::Comfort;
use super::excitation::{Delay, Excitation};
use super::filter::{Biquad, Synthesis};
use super::gain::{self, Gains};
use super::innovation::{self, Sharpening};
use super::lsf::{self, Quantiser};
use super::pitch::{self, Range};
use super::postfilter::Postfilter;
use super::{FRAME, Lpc, Lsp, MAX_DELAY, SUBFRAME, lpc};

/// How much of the gains is left after each lost subframe.
const LOST_PITCH_GAIN: f32 = 0.9;
const LOST_FIXED_GAIN: f32 = 0.98;

/// Decodes a stream.
#[derive(Debug)]
pub struct Decoder {
    lsp: Lsp,
    quantiser: Quantiser,
    excitation: Excitation,
    delay: usize,
    last_gains: Gains,
    sharpening: Sharpening,
    gains: gain::Predictor,
    synthesis: Synthesis,
    postfilter: Postfilter,
    high_pass: Biquad,
    comfort: Comfort,
    silent: bool,
    seed: u16,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            lsp: lpc::flat_lsp(),
            quantiser: Quantiser::default(),
            excitation: Excitation::default(),
            delay: 60,
            last_gains: Gains::default(),
            sharpening: Sharpening::default(),
            gains: gain::Predictor::default(),
            synthesis: Synthesis::default(),
            postfilter: Postfilter::default(),
            high_pass: Biquad::after_decoding(),
            comfort: Comfort::default(),
            silent: false,
            seed: 21_845,
        }
    }
}

impl Decoder {
    /// Decodes a frame of speech.
    pub fn decode(&mut self, octets: &[u8; 10], out: &mut [i16; FRAME]) {
        let codes = FrameCodes::unpack(octets);
        self.silent = false;
        let predictors = self.advance(|quantiser| {
            quantiser.decode(lsf::Codes {
                predictor: codes.predictor,
                first: codes.first,
                second: codes.second,
            })
        });
        // A damaged delay is taken from the former frame.
        let first = match codes.delay_is_sound() {
            true => pitch::decode_first(codes.subframes[0].delay),
            false => Delay::whole(self.delay),
        };
        let second = pitch::decode_second(codes.subframes[1].delay, Range::of_second(first));
        for (index, delay) in [first, second].into_iter().enumerate() {
            self.decode_subframe(index, delay, codes.subframes[index]);
            self.synthesise(index, &predictors[index], Some(delay.whole), out);
        }
    }

    /// Decodes a silence descriptor.
    pub fn decode_silence(&mut self, octets: [u8; 2], out: &mut [i16; FRAME]) {
        let codes = SilenceCodes::unpack(octets);
        self.comfort.set(codes, !self.silent);
        self.silent = true;
        let predictors = self.advance(|quantiser| quantiser.decode_silence(codes));
        self.make_noise(&predictors, out);
    }

    /// Covers a frame that was not received: noise while the far end is silent, otherwise the
    /// former frame, fading.
    pub fn conceal(&mut self, out: &mut [i16; FRAME]) {
        if self.silent {
            let predictors = [lpc::from_lsp(&self.lsp); 2];
            self.excitation.advance();
            return self.make_noise(&predictors, out);
        }
        let predictors = self.advance(Quantiser::conceal);
        for (index, predictor) in predictors.iter().enumerate() {
            let delay = self.delay;
            self.conceal_subframe(index);
            self.synthesise(index, predictor, Some(delay), out);
        }
    }

    /// Begins a frame of which the spectrum is known.
    fn advance(&mut self, spectrum: impl FnOnce(&mut Quantiser) -> Lsp) -> [Lpc; 2] {
        let lsp = spectrum(&mut self.quantiser).map(f32::cos);
        let predictors = lpc::interpolate(&self.lsp, &lsp);
        self.lsp = lsp;
        self.excitation.advance();
        predictors
    }

    fn decode_subframe(&mut self, index: usize, delay: Delay, codes: SubframeCodes) {
        let start = index * SUBFRAME;
        let adaptive = self.excitation.repeat(start, delay);
        let SubframeCodes { positions, signs, .. } = codes;
        let mut fixed = innovation::decode(innovation::Codes { positions, signs });
        self.sharpening.apply(&mut fixed, delay.whole);
        let gains = self.gains.decode(codes.gains, &fixed);
        self.excite(start, &adaptive, &fixed, gains);
        self.sharpening = Sharpening::of(gains.pitch);
        self.delay = delay.whole;
    }

    fn conceal_subframe(&mut self, index: usize) {
        let start = index * SUBFRAME;
        let adaptive = self.excitation.repeat(start, Delay::whole(self.delay));
        let positions = self.random() & 0x1fff;
        let signs = (self.random() & 0x0f) as u8;
        let mut fixed = innovation::decode(innovation::Codes { positions, signs });
        self.sharpening.apply(&mut fixed, self.delay);
        let gains = Gains {
            pitch: (LOST_PITCH_GAIN * self.last_gains.pitch).min(LOST_PITCH_GAIN),
            fixed: LOST_FIXED_GAIN * self.last_gains.fixed,
        };
        self.gains.conceal();
        self.excite(start, &adaptive, &fixed, gains);
        self.sharpening = Sharpening::of(gains.pitch);
        // Lest a long loss buzz, the delay grows.
        self.delay = (self.delay + 1).min(MAX_DELAY);
    }

    fn excite(
        &mut self,
        start: usize,
        adaptive: &[f32; SUBFRAME],
        fixed: &[f32; SUBFRAME],
        gains: Gains,
    ) {
        let mixed = std::array::from_fn(|at| gains.pitch * adaptive[at] + gains.fixed * fixed[at]);
        self.excitation.set(start, &mixed);
        self.last_gains = gains;
    }

    fn make_noise(&mut self, predictors: &[Lpc; 2], out: &mut [i16; FRAME]) {
        self.comfort.advance();
        for (index, predictor) in predictors.iter().enumerate() {
            let noise = self.comfort.subframe();
            self.excitation.set(index * SUBFRAME, &noise);
            self.synthesise(index, predictor, None, out);
        }
        self.sharpening = Sharpening::default();
    }

    fn synthesise(
        &mut self,
        index: usize,
        predictor: &Lpc,
        delay: Option<usize>,
        out: &mut [i16; FRAME],
    ) {
        let start = index * SUBFRAME;
        let speech = self.synthesis.filter(predictor, &self.excitation.subframe(start));
        let filtered = self.postfilter.filter(&speech, predictor, delay);
        for (sample, value) in out[start..].iter_mut().zip(filtered) {
            *sample = self.high_pass.filter(value).round_ties_even() as i16;
        }
    }

    fn random(&mut self) -> u16 {
        self.seed = self.seed.wrapping_mul(31_821).wrapping_add(13_849);
        self.seed
    }
}
