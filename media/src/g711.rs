//! G.711 A-law and mu-law. Decoding and transcoding are tables made at compile time.

use crate::rtp::Pt;

/// Samples in a frame of 20 ms, and octets of it in either law.
pub const FRAME_SAMPLES: usize = 160;

/// How long a frame lasts.
pub const FRAME_MS: u32 = 20;

/// 20 ms of audio in one law.
pub type Frame = [u8; FRAME_SAMPLES];

/// The two companding laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// PCMA, payload type 8.
    A,
    /// PCMU, payload type 0.
    Mu,
}

impl Law {
    /// The law of a static payload type, RFC 3551 table 4.
    #[must_use]
    pub fn of(pt: Pt) -> Option<Self> {
        match pt.0 {
            8 => Some(Self::A),
            0 => Some(Self::Mu),
            _ => None,
        }
    }

    /// The octet that decodes nearest to zero.
    #[must_use]
    pub fn silence(self) -> u8 {
        match self {
            Self::A => 0xd5,
            Self::Mu => 0xff,
        }
    }

    /// One sample to its octet.
    #[must_use]
    pub const fn encode(self, sample: i16) -> u8 {
        match self {
            Self::A => encode_a(sample),
            Self::Mu => encode_mu(sample),
        }
    }

    /// As many samples to their octets as there is room for.
    pub fn encode_all(self, samples: &[i16], octets: &mut [u8]) {
        let places = octets.iter_mut().zip(samples);
        // The choice is made once, so that each loop can be made of vector instructions.
        match self {
            Self::A => places.for_each(|(octet, sample)| *octet = encode_a(*sample)),
            Self::Mu => places.for_each(|(octet, sample)| *octet = encode_mu(*sample)),
        }
    }

    /// One octet to its sample.
    #[must_use]
    pub fn decode(self, octet: u8) -> i16 {
        self.decoder()[usize::from(octet)]
    }

    /// The decoding table.
    #[must_use]
    pub fn decoder(self) -> &'static [i16; 256] {
        match self {
            Self::A => &A_DECODED,
            Self::Mu => &MU_DECODED,
        }
    }

    /// Rewrites octets of this law in `other`; does nothing when they are the same.
    pub fn transcode(self, other: Self, octets: &mut [u8]) {
        let table = match (self, other) {
            (Self::A, Self::Mu) => &A_TO_MU,
            (Self::Mu, Self::A) => &MU_TO_A,
            _ => return,
        };
        for octet in octets {
            *octet = table[usize::from(*octet)];
        }
    }
}

static A_DECODED: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = decode_a(code as u8);
        code += 1;
    }
    table
};

static MU_DECODED: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = decode_mu(code as u8);
        code += 1;
    }
    table
};

static A_TO_MU: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = encode_mu(decode_a(code as u8));
        code += 1;
    }
    table
};

static MU_TO_A: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = encode_a(decode_mu(code as u8));
        code += 1;
    }
    table
};

/// Where a float keeps its exponent and the first four bits after the leading one: what a code of
/// G.711 consists of too. Read from there, many samples are encoded at once by vector instructions,
/// which have no count of leading zeros.
const FLOAT_SHIFT: u32 = 19;

/// G.711 table 1: eight segments of 16 steps over 12 bits of magnitude, even bits inverted.
const fn encode_a(sample: i16) -> u8 {
    /// The float's exponent of segment 0, which would begin at 16.
    const FIRST: u32 = (127 + 4) << 4;
    let sample = sample as i32;
    let sign = if sample < 0 { 0 } else { 0x80 };
    // The one's complement keeps -1..-8 in the first negative step.
    let magnitude = (if sample < 0 { !sample } else { sample }) >> 3;
    let segmented = ((magnitude as f32).to_bits() >> FLOAT_SHIFT).wrapping_sub(FIRST);
    // Segments 0 and 1 have steps of the same size.
    let code = if magnitude < 32 { magnitude.cast_unsigned() >> 1 } else { segmented };
    (sign | code as u8) ^ 0x55
}

const fn decode_a(octet: u8) -> i16 {
    let code = octet ^ 0x55;
    let segment = (code >> 4) & 0x07;
    let step = ((code & 0x0f) as i16) << 1;
    let magnitude = if segment == 0 { step + 1 } else { (step + 33) << (segment - 1) };
    if code & 0x80 == 0 { -(magnitude << 3) } else { magnitude << 3 }
}

/// Added to 13 bits of magnitude so that segments double, G.711 table 2.
const MU_BIAS: u16 = 33;

/// The largest magnitude of mu-law, before the bias.
const MU_CLIP: i32 = 8158;

const fn encode_mu(sample: i16) -> u8 {
    /// The float's exponent of segment 0, which begins at 32.
    const FIRST: u32 = (127 + 5) << 4;
    let sample = sample as i32;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let linear = sample.abs() >> 2;
    let biased = (if linear > MU_CLIP { MU_CLIP } else { linear }) + MU_BIAS as i32;
    let code = ((biased as f32).to_bits() >> FLOAT_SHIFT).wrapping_sub(FIRST);
    !(sign | code as u8)
}

const fn decode_mu(octet: u8) -> i16 {
    let code = !octet;
    let segment = (code >> 4) & 0x07;
    let biased = (((code & 0x0f) as u16) << 1) + MU_BIAS;
    let magnitude = (((biased << segment) - MU_BIAS) << 2).cast_signed();
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the leading zeros of the magnitude, as the tables of G.711 read.
    fn by_the_tables(law: Law, sample: i16) -> u8 {
        match law {
            Law::A => {
                let sign = if sample < 0 { 0 } else { 0x80 };
                let magnitude = (if sample < 0 { !sample } else { sample }).cast_unsigned() >> 3;
                let segment = if magnitude < 32 { 0 } else { 11 - magnitude.leading_zeros() };
                let step = (magnitude >> segment.max(1)) as u8 & 0x0f;
                (sign | (segment as u8) << 4 | step) ^ 0x55
            }
            Law::Mu => {
                let sign = if sample < 0 { 0x80 } else { 0 };
                let biased = (sample.unsigned_abs() >> 2).min(8158) + MU_BIAS;
                let segment = 10 - biased.leading_zeros();
                !(sign | (segment as u8) << 4 | ((biased >> (segment + 1)) as u8 & 0x0f))
            }
        }
    }

    #[test]
    fn every_sample_is_encoded_as_the_tables_say() {
        let samples: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        for law in [Law::A, Law::Mu] {
            let mut octets = vec![0; samples.len()];
            law.encode_all(&samples, &mut octets);
            for (octet, sample) in octets.iter().zip(&samples) {
                assert_eq!(*octet, by_the_tables(law, *sample), "{law:?} {sample}");
            }
        }
    }

    #[test]
    fn codes_survive_decoding_and_encoding() {
        for octet in 0..=255 {
            assert_eq!(Law::A.encode(Law::A.decode(octet)), octet);
            // Mu-law has two zeros, 0x7f and 0xff.
            let expected = if octet == 0x7f { 0xff } else { octet };
            assert_eq!(Law::Mu.encode(Law::Mu.decode(octet)), expected);
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(Law::A.encode(0), Law::A.silence());
        assert_eq!(Law::Mu.encode(0), Law::Mu.silence());
        assert_eq!(Law::A.encode(i16::MAX), 0xaa);
        assert_eq!(Law::A.encode(i16::MIN), 0x2a);
        assert_eq!(Law::A.decode(0xaa), 32256);
        assert_eq!(Law::Mu.encode(i16::MAX), 0x80);
        assert_eq!(Law::Mu.encode(i16::MIN), 0x00);
        assert_eq!(Law::Mu.decode(0x80), 32124);
        assert_eq!(Law::Mu.decode(0x00), -32124);
    }

    #[test]
    fn encoding_picks_a_near_level() {
        for sample in (i16::MIN..=i16::MAX).step_by(7) {
            for law in [Law::A, Law::Mu] {
                let error = i32::from(law.decode(law.encode(sample))) - i32::from(sample);
                let allowed = i32::from(sample.unsigned_abs()) / 16 + 16;
                assert!(error.abs() <= allowed, "{law:?} {sample} off by {error}");
            }
        }
    }

    #[test]
    fn transcoding_keeps_the_level() {
        for octet in 0..=255 {
            let mut octets = [octet];
            Law::A.transcode(Law::Mu, &mut octets);
            let before = i32::from(Law::A.decode(octet));
            let after = i32::from(Law::Mu.decode(octets[0]));
            assert!((before - after).abs() <= before.abs() / 16 + 16);
            Law::Mu.transcode(Law::Mu, &mut octets);
            assert_eq!(i32::from(Law::Mu.decode(octets[0])), after);
        }
    }
}
