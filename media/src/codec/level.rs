//! The level of audio, by which silence is told from speech.

/// Level of digital silence, the lowest that RFC 3389 and RFC 6464 can express.
pub const SILENCE_DBOV: f32 = -127.0;

/// Level at which 16 bits overload: that of a square wave of full scale.
pub const OVERLOAD_RMS: f32 = 32767.0;

/// Mean of the squares of the samples; 0 for none.
#[must_use]
pub fn mean_square(pcm: &[i16]) -> f32 {
    let sum: i64 = pcm.iter().map(|sample| i64::from(i32::from(*sample).pow(2))).sum();
    sum as f32 / pcm.len().max(1) as f32
}

/// Level in dB relative to overload, from -127 to 0.
#[must_use]
pub fn dbov(pcm: &[i16]) -> f32 {
    let relative = mean_square(pcm) / (OVERLOAD_RMS * OVERLOAD_RMS);
    (10.0 * relative.log10()).clamp(SILENCE_DBOV, 0.0)
}

/// The root mean square of a level.
#[must_use]
pub fn rms(dbov: f32) -> f32 {
    OVERLOAD_RMS * 10_f32.powf(dbov / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_known_signals() {
        assert!((dbov(&[i16::MAX, -i16::MAX]) - 0.0).abs() < 0.01);
        assert!((dbov(&[3277, -3277]) + 20.0).abs() < 0.01);
        assert!((dbov(&[0; 160]) - SILENCE_DBOV).abs() < f32::EPSILON);
        assert!((dbov(&[]) - SILENCE_DBOV).abs() < f32::EPSILON);
        assert!((rms(-20.0) - 3276.7).abs() < 0.1);
    }
}
