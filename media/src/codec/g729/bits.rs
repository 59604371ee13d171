//! The 80 bits of a frame and the 15 of a silence descriptor: tables 8 and B.2/G.729.

/// Parameters of a subframe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubframeCodes {
    /// Delay of the adaptive codebook: 8 bits in the first subframe, 5 in the second.
    pub delay: u8,
    /// Positions of the pulses.
    pub positions: u16,
    /// Their signs.
    pub signs: u8,
    /// The two stages of the gains.
    pub gains: [u8; 2],
}

impl SubframeCodes {
    /// Reads what follows the delay.
    fn take(delay: u8, take: &mut impl FnMut(u32) -> u16) -> Self {
        let positions = take(13);
        let [signs, first, second] = [4, 3, 4].map(|width| take(width) as u8);
        Self { delay, positions, signs, gains: [first, second] }
    }
}

/// Parameters of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCodes {
    /// Predictor of the frequencies.
    pub predictor: u8,
    /// Their first stage, and the second for the lower and the higher five.
    pub first: u8,
    /// See `first`.
    pub second: [u8; 2],
    /// Parity of the first delay.
    pub parity: u8,
    /// Both subframes.
    pub subframes: [SubframeCodes; 2],
}

/// Parameters of a silence descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceCodes {
    /// Predictor of the frequencies.
    pub predictor: u8,
    /// Their two stages.
    pub first: u8,
    /// See `first`.
    pub second: u8,
    /// Level of the excitation.
    pub gain: u8,
}

/// Widths of the parameters in their order.
const WIDTHS: [u32; 15] = [1, 7, 5, 5, 8, 1, 13, 4, 3, 4, 5, 13, 4, 3, 4];

impl FrameCodes {
    /// Writes the frame.
    pub fn pack(&self) -> [u8; 10] {
        let [a, b] = &self.subframes;
        let values = [
            self.predictor.into(),
            self.first.into(),
            self.second[0].into(),
            self.second[1].into(),
            a.delay.into(),
            self.parity.into(),
            a.positions,
            a.signs.into(),
            a.gains[0].into(),
            a.gains[1].into(),
            b.delay.into(),
            b.positions,
            b.signs.into(),
            b.gains[0].into(),
            b.gains[1].into(),
        ];
        let bits = values
            .iter()
            .zip(WIDTHS)
            .fold(0u128, |bits, (value, width)| bits << width | u128::from(*value));
        let mut octets = [0; 10];
        octets.copy_from_slice(&bits.to_be_bytes()[6..]);
        octets
    }

    /// Reads the frame.
    pub fn unpack(octets: &[u8; 10]) -> Self {
        let mut bits = octets.iter().fold(0u128, |bits, octet| bits << 8 | u128::from(*octet));
        bits <<= 128 - 80;
        let mut take = |width: u32| {
            let value = (bits >> (128 - width)) as u16;
            bits <<= width;
            value
        };
        let [predictor, first, low, high, delay, parity] =
            [1, 7, 5, 5, 8, 1].map(|width| take(width) as u8);
        let first_subframe = SubframeCodes::take(delay, &mut take);
        let delay = take(5) as u8;
        let second_subframe = SubframeCodes::take(delay, &mut take);
        Self {
            predictor,
            first,
            second: [low, high],
            parity,
            subframes: [first_subframe, second_subframe],
        }
    }

    /// Whether the first delay is the one that was sent, as far as its parity tells.
    pub fn delay_is_sound(&self) -> bool {
        parity(self.subframes[0].delay) == self.parity
    }
}

/// Odd parity over the six most significant bits of a delay, clause 3.7.2.
pub fn parity(delay: u8) -> u8 {
    ((delay >> 2).count_ones() as u8 + 1) & 1
}

impl SilenceCodes {
    /// Reads a descriptor.
    pub fn unpack(octets: [u8; 2]) -> Self {
        let bits = u16::from_be_bytes(octets);
        Self {
            predictor: (bits >> 15) as u8,
            first: (bits >> 10 & 0x1f) as u8,
            second: (bits >> 6 & 0x0f) as u8,
            gain: (bits >> 1 & 0x1f) as u8,
        }
    }
}
