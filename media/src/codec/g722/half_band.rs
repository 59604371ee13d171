//! From 8 to 16 kHz and back by a half-band filter: a low-pass at 4 kHz of which every second
//! coefficient is zero.

/// Coefficients at odd distances from the centre, a sinc under a Kaiser window of β 5.8: flat up to
/// 3.4 kHz, -6 dB at 4 kHz, below -50 dB from 4.6 kHz.
const COEFFICIENTS: [f32; 16] = [
    0.3174882,
    -0.1035267,
    0.05942746,
    -0.03969702,
    0.02820179,
    -0.02056137,
    0.01510081,
    -0.01104056,
    0.007964325,
    -0.005623374,
    0.003853567,
    -0.002536521,
    0.001580396,
    -0.0009101082,
    0.0004623741,
    -0.0001832628,
];

/// Samples that the coefficients reach, at the distance of two of 16 kHz.
const TAPS: usize = 2 * COEFFICIENTS.len();

/// The filter of one direction of one stream.
#[derive(Debug, Default)]
pub struct HalfBand {
    /// Samples at 8 kHz, or the first of each pair at 16 kHz, newest last.
    past: [f32; TAPS],
    /// The second of each pair, delayed to the centre of the filter.
    centre: [f32; TAPS / 2],
}

impl HalfBand {
    /// Makes two samples at 16 kHz of one at 8 kHz.
    pub fn interpolate(&mut self, sample: i16) -> [i16; 2] {
        self.push(f32::from(sample));
        // The filter is doubled, as every second sample at its input is zero.
        [self.past[TAPS / 2 - 1], 2.0 * self.side()].map(|sample| sample as i16)
    }

    /// Makes one sample at 8 kHz of two at 16 kHz.
    pub fn decimate(&mut self, [first, second]: [i16; 2]) -> i16 {
        self.push(f32::from(first));
        let centre = self.centre[0];
        self.centre.copy_within(1.., 0);
        self.centre[TAPS / 2 - 1] = f32::from(second);
        (0.5 * centre + self.side()) as i16
    }

    fn push(&mut self, sample: f32) {
        self.past.copy_within(1.., 0);
        self.past[TAPS - 1] = sample;
    }

    fn side(&self) -> f32 {
        let (older, newer) = self.past.split_at(TAPS / 2);
        let pairs = older.iter().rev().zip(newer);
        pairs.zip(&COEFFICIENTS).map(|((a, b), coefficient)| coefficient * (a + b)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f32, rate_hz: f32, index: usize) -> i16 {
        (10_000.0 * (std::f32::consts::TAU * hz * index as f32 / rate_hz).sin()) as i16
    }

    fn gain_db(samples: &[i16]) -> f32 {
        20.0 * f32::sqrt(2.0 * crate::codec::level::mean_square(samples)).max(1.0).log10() - 80.0
    }

    #[test]
    fn voice_passes_and_the_higher_band_does_not_alias() {
        for (hz, lowest, highest) in [
            (300.0, -0.1, 0.1),
            (3400.0, -0.3, 0.3),
            (4600.0, -99.0, -50.0),
            (7000.0, -99.0, -55.0),
        ] {
            let mut filter = HalfBand::default();
            let pairs = (0..8000).map(|n| [2 * n, 2 * n + 1].map(|n| sine(hz, 16_000.0, n)));
            let out: Vec<i16> = pairs.map(|pair| filter.decimate(pair)).skip(100).collect();
            let gain = gain_db(&out);
            assert!((lowest..=highest).contains(&gain), "{hz} Hz passes with {gain} dB");
        }
    }

    #[test]
    fn what_is_interpolated_has_no_images() {
        for hz in [300.0, 3000.0, 3400.0] {
            let (mut up, mut down) = (HalfBand::default(), HalfBand::default());
            let input: Vec<i16> = (0..8000).map(|n| sine(hz, 8000.0, n)).collect();
            let pairs: Vec<_> = input.iter().map(|sample| up.interpolate(*sample)).collect();
            let wide = pairs.concat();
            assert!(gain_db(&wide[200..]).abs() < 0.3);
            // Mixed down by 8 kHz, an image would be heard where the tone is.
            let turned = wide.iter().enumerate().map(|(n, s)| if n % 2 == 0 { *s } else { -s });
            let turned: Vec<i16> = turned.collect();
            let image = turned.chunks_exact(2).map(|pair| down.decimate([pair[0], pair[1]]));
            let image: Vec<i16> = image.skip(100).collect();
            assert!(gain_db(&image) < -50.0, "{hz} Hz has an image of {} dB", gain_db(&image));
        }
    }
}
