//! Tones for tests: made at 440 Hz, and measured.

use std::f32::consts::TAU;

use opus_pure::Repacketizer;

use crate::codec::{Codec, Encoder, MAX_FRAME_LEN, PCM_SAMPLES, Pcm, level};

/// Frequency and amplitude of the tone, and its level.
const HZ: f32 = 440.0;
const AMPLITUDE: f32 = 6000.0;

/// Level of the tone.
pub const TONE_DBOV: f32 = -17.8;

/// The frame of the tone at an index.
pub fn tone(index: usize) -> Pcm {
    std::array::from_fn(|sample| {
        let at = (index * PCM_SAMPLES + sample) as f32;
        (AMPLITUDE * (TAU * HZ * at / 8000.0).sin()) as i16
    })
}

/// Frames of the tone as on the wire.
pub fn encoded_tone(codec: Codec, count: usize) -> Vec<Vec<u8>> {
    tone_by(Encoder::new(codec), count)
}

/// Frames of the tone as one encoder makes them.
pub fn tone_by(mut encoder: Encoder, count: usize) -> Vec<Vec<u8>> {
    let mut out = [0; MAX_FRAME_LEN];
    (0..count)
        .map(|index| {
            let len = encoder.encode(&tone(index), &mut out);
            out[..len].to_vec()
        })
        .collect()
}

/// The frames of a packet of Opus, each as a packet of its own.
pub fn opus_frames(packet: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Repacketizer::new();
    frames.cat(packet).unwrap();
    (0..frames.nb_frames()).map(|at| frames.out_range(at, at + 1).unwrap()).collect()
}

/// Level of the tone in `pcm`, whatever its phase, and of all the rest, in dBov.
pub fn tone_and_rest(pcm: &[i16]) -> (f32, f32) {
    let turn = |index: usize| TAU * HZ * index as f32 / 8000.0;
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (index, sample) in pcm.iter().enumerate() {
        sine += f32::from(*sample) * turn(index).sin();
        cosine += f32::from(*sample) * turn(index).cos();
    }
    let scale = 2.0 / pcm.len() as f32;
    let (sine, cosine) = (sine * scale, cosine * scale);
    let rest: Vec<i16> = pcm
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let tone = sine * turn(index).sin() + cosine * turn(index).cos();
            (f32::from(*sample) - tone) as i16
        })
        .collect();
    let power = (sine * sine + cosine * cosine) / 2.0 / level::OVERLOAD_RMS.powi(2);
    (10.0 * power.log10(), level::dbov(&rest))
}
