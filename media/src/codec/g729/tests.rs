use super::*;
use crate::codec::level::{dbov, mean_square};

/// Frames of another implementation (libbcg729 1.1.1 with silence detection), each after an octet
/// of its length: 0.75 s like a voice, then a hiss.
const ENCODED: &[u8] = include_bytes!("vectors/voice.g729");

/// What the same implementation decodes from them.
const DECODED: &[u8] = include_bytes!("vectors/decoded.pcm");

fn frames() -> Vec<&'static [u8]> {
    let mut rest = ENCODED;
    let mut frames = Vec::new();
    while let Some((len, tail)) = rest.split_first() {
        let (frame, tail) = tail.split_at(usize::from(*len));
        frames.push(frame);
        rest = tail;
    }
    frames
}

fn reference() -> Vec<i16> {
    DECODED.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
}

fn decode(frames: &[&[u8]]) -> Vec<i16> {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    for frame in frames {
        let mut pcm = [0; FRAME];
        match frame.len() {
            10 => decoder.decode((*frame).try_into().unwrap(), &mut pcm),
            2 => decoder.decode_silence((*frame).try_into().unwrap(), &mut pcm),
            _ => decoder.conceal(&mut pcm),
        }
        out.extend_from_slice(&pcm);
    }
    out
}

fn snr_db(signal: &[i16], heard: &[i16]) -> f32 {
    let error: Vec<i16> = signal.iter().zip(heard).map(|(a, b)| a.saturating_sub(*b)).collect();
    10.0 * (mean_square(signal) / mean_square(&error)).log10()
}

/// Something like a voice, as in the vectors.
fn voice() -> Vec<i16> {
    let mut phase = 0.0_f32;
    (0..8000)
        .map(|index| {
            phase += 220.0 / 8000.0 + index as f32 / 8e7;
            let turn = std::f32::consts::TAU * phase;
            let tone: f32 = (1..=12u8).map(|n| (turn * f32::from(n)).sin() / f32::from(n)).sum();
            (3000.0 * tone) as i16
        })
        .collect()
}

#[test]
fn decodes_speech_as_another_implementation_does() {
    let frames = frames();
    let speech = frames.iter().take_while(|frame| frame.len() == 10).count();
    assert!(speech > 70);
    let heard = decode(&frames[..speech]);
    let snr = snr_db(&reference()[..heard.len()], &heard);
    assert!(snr > 30.0, "{snr} dB");
}

#[test]
fn silence_has_the_level_that_was_described() {
    let frames = frames();
    assert!(frames.iter().filter(|frame| frame.len() == 2).count() > 2);
    assert!(frames.iter().filter(|frame| frame.is_empty()).count() > 50);
    // The hiss was at -54.7 dBov.
    let heard = decode(&frames);
    let level = dbov(&heard[heard.len() - 6000..]);
    assert!((level + 54.7).abs() < 2.0, "{level} dBov");
}

#[test]
fn what_is_encoded_is_a_voice_again() {
    let voice = voice();
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::default();
    let mut heard = Vec::new();
    for frame in voice.as_chunks().0 {
        let mut pcm = [0; FRAME];
        decoder.decode(&encoder.encode(frame), &mut pcm);
        heard.extend_from_slice(&pcm);
    }
    // The encoder looks 5 ms ahead, and the high-passes turn the phases of low tones. The other
    // implementation reaches 3.0 dB with the same signal.
    let snr = (30..50).map(|delay| snr_db(&voice[2000..7800], &heard[2000 + delay..]));
    let snr = snr.fold(f32::MIN, f32::max);
    assert!(snr > 2.8, "{snr} dB");
}

#[test]
fn a_lost_frame_is_like_its_neighbours() {
    let frames = frames();
    let whole = decode(&frames[..40]);
    let mut damaged = frames[..40].to_vec();
    damaged[30] = &[];
    let heard = decode(&damaged);
    let gap = 30 * FRAME..31 * FRAME;
    assert!((dbov(&heard[gap.clone()]) - dbov(&whole[gap])).abs() < 4.0);
    let after = 36 * FRAME..40 * FRAME;
    assert!((dbov(&heard[after.clone()]) - dbov(&whole[after])).abs() < 2.0);
}

#[test]
fn codes_survive_packing() {
    let octets: [u8; 10] = std::array::from_fn(|index| (index as u8).wrapping_mul(91) ^ 0x5a);
    let codes = bits::FrameCodes::unpack(&octets);
    assert_eq!(codes.pack(), octets);
    for code in 0..=255 {
        assert_eq!(pitch::encode_first(pitch::decode_first(code)), code);
        let range = pitch::Range::of_second(pitch::decode_first(code));
        for second in 0..32 {
            assert_eq!(pitch::encode_second(pitch::decode_second(second, range), range), second);
        }
    }
    for positions in 0..1 << 13 {
        let pulses = innovation::decode(innovation::Codes { positions, signs: 0b0110 });
        assert_eq!(pulses.iter().map(|pulse| pulse.abs()).sum::<f32>(), 4.0);
    }
}

#[test]
fn extremes_stay_finite() {
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::default();
    let mut pcm = [0; FRAME];
    for round in 0..200 {
        let loud: [i16; FRAME] = std::array::from_fn(|index| match round % 4 {
            0 => 0,
            1 => i16::MAX,
            2 if index % 2 == 0 => i16::MIN,
            _ => (index as i16).wrapping_mul(7919),
        });
        decoder.decode(&encoder.encode(&loud), &mut pcm);
        decoder.decode(&[round; 10], &mut pcm);
        decoder.decode_silence([round, 0xff], &mut pcm);
        decoder.conceal(&mut pcm);
    }
    let quiet: [i16; FRAME] = [0; FRAME];
    for _ in 0..100 {
        decoder.decode(&encoder.encode(&quiet), &mut pcm);
    }
    assert!(dbov(&pcm) < -50.0, "{}", dbov(&pcm));
}
