//! The power of short blocks of audio in a few bands of the telephone's.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use crate::tone::SAMPLE_RATE_HZ;

/// Samples of a block, 5 ms: what a Hann window makes of them is about 400 Hz wide.
pub(super) const BLOCK: usize = 40;

pub(super) const BANDS: usize = 8;

/// Closer together where speech has more to tell; none where G.729 and Opus keep little.
const CENTRES_HZ: [f64; BANDS] = [400.0, 650.0, 950.0, 1300.0, 1700.0, 2150.0, 2650.0, 3150.0];

/// Added to every band of a block, so that the noise of an idle line moves nothing: the power of a
/// tone of -60 dBm0.
const FLOOR: f32 = 260.0;

/// Powers of the bands, over the floor.
pub(super) type Bands = [f32; BANDS];

/// A Fourier transform of the bands' centres alone, by its definition: it needs no order of its
/// outputs and no delay, and processors do four or eight bands at once.
///
/// About the middle of a block its cosines are even and its sines odd, so that two samples are one.
pub(super) struct Bank {
    /// By distance from the middle: what the sum of two samples weighs in the real parts.
    even: [Bands; BLOCK / 2],
    /// And what their difference weighs in the imaginary ones.
    odd: [Bands; BLOCK / 2],
}

static BANK: LazyLock<Bank> = LazyLock::new(Bank::new);

impl Bank {
    fn new() -> Self {
        let weights = |turned: fn(f64) -> f64| {
            std::array::from_fn(|distance| {
                let at = distance as f64 + 0.5;
                let hann = 1.0 + (TAU * at / BLOCK as f64).cos();
                // A tone of amplitude 1 in the middle of a band has the power 1/2.
                let weight = hann * 2f64.sqrt() / BLOCK as f64;
                CENTRES_HZ
                    .map(|hz| (weight * turned(TAU * hz * at / f64::from(SAMPLE_RATE_HZ))) as f32)
            })
        };
        Self { even: weights(f64::cos), odd: weights(f64::sin) }
    }

    pub(super) fn shared() -> &'static Self {
        &BANK
    }

    /// Measures one block.
    pub(super) fn measure(&self, block: &[i16; BLOCK]) -> Bands {
        let (before, after) = block.split_at(BLOCK / 2);
        let (mut real, mut imaginary) = ([0f32; BANDS], [0f32; BANDS]);
        let pairs = before.iter().rev().zip(after).zip(self.even.iter().zip(&self.odd));
        for ((before, after), (even, odd)) in pairs {
            let (before, after) = (i32::from(*before), i32::from(*after));
            let (sum, difference) = ((after + before) as f32, (after - before) as f32);
            for band in 0..BANDS {
                real[band] += even[band] * sum;
                imaginary[band] += odd[band] * difference;
            }
        }
        std::array::from_fn(|band| {
            FLOOR + real[band] * real[band] + imaginary[band] * imaginary[band]
        })
    }
}

/// The bands of several blocks together.
pub(super) fn sum(blocks: &[Bands]) -> Bands {
    let mut sum = [0.0; BANDS];
    for block in blocks {
        for (sum, power) in sum.iter_mut().zip(block) {
            *sum += power;
        }
    }
    sum
}
