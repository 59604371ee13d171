//! The fingerprint of a frame: 16 bits, each the answer to whether something has grown.

use super::bands::{BANDS, Bands};

/// Bits of a frame.
pub(super) const BITS: usize = 2 * BANDS;

/// A print with the bits of it that a codec, a loss or some milliseconds will hardly turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Firm {
    pub(super) print: u16,
    pub(super) firm: u16,
}

/// A bit is firm when what it compares differs by this factor, 2 dB.
const FIRM: f32 = 1.6;

/// Both sides of each comparison: of a band's share of all with what it was, of two neighbours with
/// how they were to each other, and of the sum with what it was. But for this one the rhythm of
/// speech does not count, which is much the same in all sentences of a voice. Products stand for
/// the differences of logarithms, so no level matters.
fn comparisons(now: &Bands, before: &Bands) -> [(f32, f32); BITS] {
    let (all, all_before): (f32, f32) = (now.iter().sum(), before.iter().sum());
    std::array::from_fn(|bit| {
        if bit < BANDS {
            (now[bit] * all_before, before[bit] * all)
        } else if bit < BITS - 1 {
            let band = bit - BANDS;
            (now[band] * before[band + 1], before[band] * now[band + 1])
        } else {
            (all, all_before)
        }
    })
}

/// The print of a frame, given what was heard a while before.
pub(super) fn print(now: &Bands, before: &Bands) -> u16 {
    let mut print = 0;
    for (bit, (left, right)) in comparisons(now, before).into_iter().enumerate() {
        print |= u16::from(left > right) << bit;
    }
    print
}

/// The print of a frame of a known sound.
pub(super) fn firm_print(now: &Bands, before: &Bands) -> Firm {
    let mut firm = 0;
    for (bit, (left, right)) in comparisons(now, before).into_iter().enumerate() {
        firm |= u16::from(left > FIRM * right || right > FIRM * left) << bit;
    }
    Firm { print: print(now, before), firm }
}
