//! One sub-band: the adaptive scale and the adaptive predictor, alike in encoder and decoder.

use super::saturate;

/// What differs between the two bands.
#[derive(Debug)]
pub struct Tables {
    /// Inverse quantiser by code.
    levels: &'static [i32],
    /// What a code adds to the logarithmic scale.
    steps: &'static [i32],
    max_log_scale: i32,
    scale_shift: i32,
}

/// The lower band, by the upper four bits of its code: tables 17, 12 and 13/G.722.
pub static LOW: Tables = Tables {
    levels: &[
        0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
        1200, 0,
    ],
    steps: &[-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60],
    max_log_scale: 18432,
    scale_shift: 8,
};

/// The higher band: tables 19 and 12/G.722.
pub static HIGH: Tables = Tables {
    levels: &[-7408, -1616, 7408, 1616],
    steps: &[798, -214, 798, -214],
    max_log_scale: 22528,
    scale_shift: 10,
};

/// 2^(11 + n/32), table 20/G.722.
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// The state of a sub-band.
#[derive(Debug)]
pub struct Band {
    tables: &'static Tables,
    log_scale: i32,
    scale: i32,
    /// Output of the whole predictor and of its zeros alone.
    prediction: i32,
    zeros_prediction: i32,
    /// The last two reconstructed and partially reconstructed signals.
    reconstructed: [i32; 2],
    partial: [i32; 2],
    poles: [i32; 2],
    /// The last six quantised differences and their coefficients.
    differences: [i32; 6],
    zeros: [i32; 6],
}

impl Band {
    /// A band at rest.
    pub fn new(tables: &'static Tables) -> Self {
        let mut band = Self {
            tables,
            log_scale: 0,
            scale: 0,
            prediction: 0,
            zeros_prediction: 0,
            reconstructed: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            zeros: [0; 6],
        };
        band.scale = band.linear_scale();
        band
    }

    /// What is expected of the next sample.
    pub fn prediction(&self) -> i32 {
        self.prediction
    }

    /// The present scale of the quantiser.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// The difference that a code stands for.
    pub fn difference(&self, code: u8) -> i32 {
        (self.scale * self.tables.levels[usize::from(code)]) >> 15
    }

    /// Blocks 3 and 4: adapts scale and predictor to a code.
    pub fn adapt(&mut self, code: u8) {
        let difference = self.difference(code);
        let step = self.tables.steps[usize::from(code)];
        self.log_scale = (((self.log_scale * 127) >> 7) + step).clamp(0, self.tables.max_log_scale);
        self.scale = self.linear_scale();

        let reconstructed = saturate(self.prediction + difference);
        let partial = saturate(self.zeros_prediction + difference);
        self.adapt_poles(partial);
        self.adapt_zeros(difference);
        self.partial = [partial, self.partial[0]];
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.predict();
    }

    /// SCALEL and SCALEH.
    fn linear_scale(&self) -> i32 {
        let power = POWERS[(self.log_scale >> 6 & 31) as usize];
        let shift = self.tables.scale_shift - (self.log_scale >> 11);
        let scale = if shift < 0 { power << -shift } else { power >> shift };
        scale << 2
    }

    /// UPPOL2 and UPPOL1.
    fn adapt_poles(&mut self, partial: i32) {
        let same = self.partial.map(|former| (former < 0) == (partial < 0));
        let [first, second] = self.poles;
        let towards = saturate(first << 2);
        let towards = if same[0] { (-towards).min(i16::MAX.into()) } else { towards };
        let step = if same[1] { 128 } else { -128 };
        let second = (step + (towards >> 7) + ((second * 32512) >> 15)).clamp(-12288, 12288);
        let step = if same[0] { 192 } else { -192 };
        let bound = saturate(15360 - second);
        let first = saturate(step + ((first * 32640) >> 15)).clamp(-bound, bound);
        self.poles = [first, second];
    }

    /// UPZERO, and the delay of the differences.
    fn adapt_zeros(&mut self, difference: i32) {
        let step = if difference == 0 { 0 } else { 128 };
        for (zero, former) in self.zeros.iter_mut().zip(&self.differences) {
            let same = (*former < 0) == (difference < 0);
            let leaked = (*zero * 32640) >> 15;
            *zero = saturate(if same { leaked + step } else { leaked - step });
        }
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
    }

    /// FILTEP, FILTEZ and PREDIC.
    fn predict(&mut self) {
        let weigh = |(value, coefficient): (&i32, &i32)| (saturate(value * 2) * coefficient) >> 15;
        let poles: i32 = self.reconstructed.iter().zip(&self.poles).map(weigh).sum();
        let zeros: i32 = self.differences.iter().zip(&self.zeros).map(weigh).sum();
        self.zeros_prediction = saturate(zeros);
        self.prediction = saturate(saturate(poles) + self.zeros_prediction);
    }
}
