//! G.722 at 64 kbit/s: two sub-bands of 8 kHz in adaptive differential coding, bit-exact with the
//! Recommendation. Names of blocks and variables are those of its clause 6.
//!
//! The engine's 8 kHz become the 16 kHz of the codec, and back, in [`HalfBand`].

mod band;
mod half_band;

use band::{Band, HIGH, LOW};
use half_band::HalfBand;

/// Half of the 24 symmetrical coefficients of the quadrature mirror filters, table 11/G.722.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// The past of a quadrature mirror filter, newest pair last.
type QmfPast = [[i32; 2]; 12];

/// Decision levels of the lower band, table 14/G.722.
const Q6: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
    1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

/// Outputs of the 60-level inverse quantiser of the lower band by magnitude, table 18/G.722.
const QM6: [i32; 30] = [
    136, 432, 728, 1040, 1360, 1688, 2032, 2400, 2776, 3168, 3576, 4008, 4464, 4944, 5456, 6000,
    6576, 7192, 7856, 8576, 9360, 10232, 11192, 12280, 13512, 14984, 16704, 19008, 21904, 24808,
];

/// The step of the higher band's quantiser, table 14/G.722.
const Q2: i32 = 564;

/// Encodes a stream.
#[derive(Debug)]
pub struct Encoder {
    interpolator: HalfBand,
    past: QmfPast,
    low: Band,
    high: Band,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            interpolator: HalfBand::default(),
            past: QmfPast::default(),
            low: Band::new(&LOW),
            high: Band::new(&HIGH),
        }
    }
}

impl Encoder {
    /// Encodes samples at 8 kHz to an octet each.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) {
        for (octet, sample) in out.iter_mut().zip(pcm) {
            let pair = self.interpolator.interpolate(*sample);
            *octet = self.encode_pair(pair);
        }
    }

    /// Encodes two samples at 16 kHz.
    fn encode_pair(&mut self, pair: [i16; 2]) -> u8 {
        push(&mut self.past, pair.map(i32::from));
        let (mut even, mut odd) = (0, 0);
        for (index, [a, b]) in self.past.iter().enumerate() {
            even += a * QMF[index];
            odd += b * QMF[11 - index];
        }
        let low = self.encode_low((even + odd) >> 14);
        let high = self.encode_high((odd - even) >> 14);
        high << 6 | low
    }

    /// Block 1L: the 60-level quantiser.
    fn encode_low(&mut self, signal: i32) -> u8 {
        let difference = saturate(signal - self.low.prediction());
        let magnitude = if difference < 0 { !difference } else { difference };
        let scale = self.low.scale();
        let level = Q6.iter().take_while(|level| magnitude >= (*level * scale) >> 12).count() as u8;
        // Table 15/G.722: codes fall with the magnitude, and the lowest two negative ones are apart.
        let code = match (difference < 0, level) {
            (false, _) => 61 - level,
            (true, 0 | 1) => 63 - level,
            (true, _) => 33 - level,
        };
        self.low.adapt(code >> 2);
        code
    }

    /// Block 1H: the 4-level quantiser.
    fn encode_high(&mut self, signal: i32) -> u8 {
        let difference = saturate(signal - self.high.prediction());
        let magnitude = if difference < 0 { !difference } else { difference };
        let far = magnitude >= (Q2 * self.high.scale()) >> 12;
        let code = match (difference < 0, far) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        };
        self.high.adapt(code);
        code
    }
}

/// Decodes a stream.
#[derive(Debug)]
pub struct Decoder {
    decimator: HalfBand,
    past: QmfPast,
    low: Band,
    high: Band,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            decimator: HalfBand::default(),
            past: QmfPast::default(),
            low: Band::new(&LOW),
            high: Band::new(&HIGH),
        }
    }
}

impl Decoder {
    /// Decodes octets to a sample at 8 kHz each.
    pub fn decode(&mut self, octets: &[u8], out: &mut [i16]) {
        for (sample, octet) in out.iter_mut().zip(octets) {
            let pair = self.decode_octet(*octet);
            *sample = self.decimator.decimate(pair);
        }
    }

    /// Decodes an octet to two samples at 16 kHz.
    fn decode_octet(&mut self, octet: u8) -> [i16; 2] {
        let code = octet & 0x3f;
        let level = match code {
            // Codes that no encoder sends are taken for the lowest negative one.
            0..=3 => -QM6[0],
            4..=31 => -QM6[usize::from(33 - code)],
            32..=61 => QM6[usize::from(61 - code)],
            _ => -QM6[usize::from(63 - code)],
        };
        let low = self.low.prediction() + ((self.low.scale() * level) >> 15);
        let low = low.clamp(-16384, 16383);
        self.low.adapt(code >> 2);

        let high = self.high.prediction() + self.high.difference(octet >> 6);
        let high = high.clamp(-16384, 16383);
        self.high.adapt(octet >> 6);

        push(&mut self.past, [low + high, low - high]);
        let (mut first, mut second) = (0, 0);
        for (index, [a, b]) in self.past.iter().enumerate() {
            first += b * QMF[11 - index];
            second += a * QMF[index];
        }
        [first, second].map(|sum| saturate(sum >> 11) as i16)
    }
}

fn push(past: &mut QmfPast, newest: [i32; 2]) {
    past.copy_within(1.., 0);
    past[11] = newest;
}

/// To 16 bits.
fn saturate(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}

#[cfg(test)]
mod tests;
