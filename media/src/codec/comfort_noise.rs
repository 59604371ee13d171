//! Comfort noise, RFC 3389: what is heard of a far end that sends nothing while it is silent.

use super::level;

/// Most reflection coefficients used; a descriptor may have more.
const MAX_ORDER: usize = 10;

/// Level of a descriptor without one, quiet room noise.
const DEFAULT_DBOV: f32 = -65.0;

/// Levels above this are no background noise but a mistake or malice.
const MAX_DBOV: f32 = -30.0;

/// Noise of a level and a spectrum.
#[derive(Debug)]
pub struct ComfortNoise {
    seed: u32,
    /// Amplitude of the even white noise that excites the filter.
    amplitude: f32,
    predictor: [f32; MAX_ORDER],
    past: [f32; MAX_ORDER],
}

impl Default for ComfortNoise {
    fn default() -> Self {
        let mut noise =
            Self { seed: 1, amplitude: 0.0, predictor: [0.0; MAX_ORDER], past: [0.0; MAX_ORDER] };
        noise.set(&[]);
        noise
    }
}

impl ComfortNoise {
    /// Takes a descriptor: an octet of level in -dBov, then quantised reflection coefficients of
    /// an all-pole model (RFC 3389 section 3).
    pub fn set(&mut self, descriptor: &[u8]) {
        let level = descriptor.first().map_or(DEFAULT_DBOV, |octet| -f32::from(octet & 0x7f));
        self.predictor = [0.0; MAX_ORDER];
        // The energy that the filter adds, and the white noise must lack.
        let mut residual = 1.0;
        for (index, octet) in descriptor.iter().skip(1).take(MAX_ORDER).enumerate() {
            let reflection = (258.0 * (f32::from(*octet) - 127.0) / 32768.0).clamp(-0.9, 0.9);
            residual *= 1.0 - reflection * reflection;
            step_up(&mut self.predictor[..=index], reflection);
        }
        // Evenly distributed noise of amplitude A has a mean square of A²/3.
        self.amplitude = level::rms(level.min(MAX_DBOV)) * f32::sqrt(3.0 * residual);
    }

    /// Makes noise.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            let mut value = self.white() * self.amplitude;
            for (coefficient, past) in self.predictor.iter().zip(&self.past) {
                value -= coefficient * past;
            }
            self.past.copy_within(..MAX_ORDER - 1, 1);
            self.past[0] = value;
            *sample = value as i16;
        }
    }

    /// White noise from -1 to 1; a linear congruence is random enough for the ear.
    fn white(&mut self) -> f32 {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.seed.cast_signed() as f32 / -(i32::MIN as f32)
    }
}

/// One step of the Levinson recursion from reflection coefficients to those of the predictor.
fn step_up(predictor: &mut [f32], reflection: f32) {
    let Some((last, former)) = predictor.split_last_mut() else { return };
    for low in 0..former.len().div_ceil(2) {
        let high = former.len() - 1 - low;
        let (a, b) = (former[low], former[high]);
        former[low] = a + reflection * b;
        former[high] = b + reflection * a;
    }
    *last = reflection;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(descriptor: &[u8]) -> Vec<i16> {
        let mut noise = ComfortNoise::default();
        noise.set(descriptor);
        let mut out = vec![0; 16_000];
        noise.fill(&mut out);
        out
    }

    /// Correlation of neighbours, which tells a falling spectrum from a rising one.
    fn neighbours(pcm: &[i16]) -> f32 {
        let products = pcm.windows(2).map(|pair| f32::from(pair[0]) * f32::from(pair[1]));
        products.sum::<f32>() / pcm.len() as f32 / level::mean_square(pcm)
    }

    #[test]
    fn has_the_level_asked_for() {
        for octet in [35, 50, 70] {
            let level = level::dbov(&noise(&[octet]));
            assert!((level + f32::from(octet)).abs() < 1.0, "{octet} gives {level}");
        }
        assert!(level::dbov(&noise(&[0])) < -29.0);
        assert!(level::dbov(&noise(&[0xff])) < -100.0);
    }

    #[test]
    fn has_the_spectrum_asked_for_at_the_same_level() {
        // A first reflection coefficient of -0.63 is a spectrum that falls.
        let falling = noise(&[40, 47, 127, 127]);
        let flat = noise(&[40]);
        assert!((level::dbov(&falling) + 40.0).abs() < 1.0);
        assert!(neighbours(&falling) > 0.5);
        assert!(neighbours(&flat).abs() < 0.05);
    }

    #[test]
    fn any_descriptor_is_stable() {
        for octet in [0, 255] {
            let out = noise(&[[40].as_slice(), &[octet; 40]].concat());
            assert!(level::dbov(&out) < -20.0, "{octet}: {}", level::dbov(&out));
        }
    }
}
