use super::*;
use crate::codec::Pcm;
use crate::codec::level::mean_square;

/// Something like a voice: a gliding fundamental with falling harmonics, and syllables.
fn voice(samples: usize) -> Vec<i16> {
    let mut phase = 0.0_f32;
    (0..samples)
        .map(|index| {
            let time = index as f32 / 8000.0;
            phase += (120.0 + 25.0 * (time * 2.0).sin()) / 8000.0;
            let turn = std::f32::consts::TAU * phase;
            let tone: f32 = (1..=12u8).map(|n| (turn * f32::from(n)).sin() / f32::from(n)).sum();
            let syllable = 0.35 + 0.65 * (time * 12.0).sin().powi(2);
            (5000.0 * tone * syllable) as i16
        })
        .collect()
}

fn tone(hz: f32, samples: usize) -> Vec<i16> {
    let turn = |index: usize| std::f32::consts::TAU * hz * index as f32 / 8000.0;
    (0..samples).map(|index| (8000.0 * turn(index).sin()) as i16).collect()
}

/// Frames lost by a seeded generator, about one in twenty, never the first two.
fn lost(frame: usize) -> bool {
    let mut state = frame as u32 ^ 0x9e37_79b9;
    for _ in 0..4 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
    }
    frame > 2 && state.is_multiple_of(20)
}

enum Cover {
    Silence,
    Repetition,
    Substitution,
}

fn covered(signal: &[i16], cover: &Cover) -> Vec<i16> {
    let mut concealer = Concealer::default();
    let mut out = Vec::new();
    for (index, frame) in signal.chunks_exact(160).enumerate() {
        let mut pcm: Pcm = frame.try_into().unwrap();
        match (lost(index), cover) {
            (false, Cover::Substitution) => concealer.receive(&mut pcm),
            (false, _) => {}
            (true, Cover::Silence) => pcm.fill(0),
            (true, Cover::Repetition) => pcm.copy_from_slice(&out[out.len() - 160..]),
            (true, Cover::Substitution) => assert!(concealer.conceal(&mut pcm)),
        }
        out.extend_from_slice(&pcm);
    }
    out
}

/// Segmental signal-to-noise ratio in dB over the frames lost.
fn segmental_snr(signal: &[i16], heard: &[i16]) -> f32 {
    let frames = signal.chunks_exact(160).zip(heard.chunks_exact(160)).enumerate();
    let ratios: Vec<f32> = frames
        .filter(|(index, _)| lost(*index))
        .map(|(_, (signal, heard))| {
            let error: Vec<i16> =
                signal.iter().zip(heard).map(|(a, b)| a.saturating_sub(*b)).collect();
            (10.0 * (mean_square(signal) / mean_square(&error).max(1.0)).log10()).clamp(-10.0, 35.0)
        })
        .collect();
    assert!(ratios.len() > 10);
    ratios.iter().sum::<f32>() / ratios.len() as f32
}

/// The largest step between neighbours.
fn steepest(pcm: &[i16]) -> i32 {
    let steps = pcm.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs());
    steps.max().unwrap_or_default()
}

#[test]
fn lost_voice_is_nearer_than_with_silence_or_repetition() {
    let signal = voice(160 * 500);
    let snr = |cover| segmental_snr(&signal, &covered(&signal, &cover));
    let substitution = snr(Cover::Substitution);
    let (silence, repetition) = (snr(Cover::Silence), snr(Cover::Repetition));
    assert!(substitution > silence + 6.0, "{substitution} and silence {silence}");
    assert!(substitution > repetition + 6.0, "{substitution} and repetition {repetition}");
}

#[test]
fn losses_click_no_more_than_the_signal_itself() {
    for signal in [voice(160 * 500), tone(437.0, 160 * 500)] {
        let heard = covered(&signal, &Cover::Substitution);
        assert!(steepest(&heard) < steepest(&signal) * 11 / 10);
    }
    let signal = tone(437.0, 160 * 500);
    assert!(steepest(&covered(&signal, &Cover::Silence)) > steepest(&signal) * 15 / 10);
}

#[test]
fn a_lost_tone_goes_on_in_phase() {
    for hz in [200.0, 425.0, 1000.0, 2100.0] {
        let signal = tone(hz, 160 * 500);
        let ratio = segmental_snr(&signal, &covered(&signal, &Cover::Substitution));
        assert!(ratio > 15.0, "{hz} Hz: {ratio} dB");
    }
}

#[test]
fn a_long_loss_fades_within_60_ms_and_audio_returns_without_a_click() {
    let signal = tone(425.0, 1600);
    let mut concealer = Concealer::default();
    let mut heard = signal[..800].to_vec();
    concealer.receive(&mut heard);
    let mut energies = Vec::new();
    for frame in 0..5 {
        let mut pcm = [0; 160];
        assert_eq!(concealer.conceal(&mut pcm), frame < 3);
        energies.push(mean_square(&pcm));
        heard.extend_from_slice(&pcm);
    }
    assert!(energies.windows(2).all(|pair| pair[1] <= pair[0]));
    assert_eq!(energies[3..], [0.0, 0.0]);
    let mut back = signal[800..960].to_vec();
    concealer.receive(&mut back);
    assert_eq!(back[100..], signal[900..960]);
    heard.extend_from_slice(&back);
    assert!(steepest(&heard) <= steepest(&signal) * 11 / 10);
}

#[test]
fn extremes_and_odd_lengths_hold() {
    let mut concealer = Concealer::default();
    for length in [0, 1, 7, 160, 960] {
        let mut pcm: Vec<i16> =
            (0..length).map(|i| if i % 3 == 0 { i16::MIN } else { i16::MAX }).collect();
        concealer.receive(&mut pcm);
        concealer.conceal(&mut pcm);
        concealer.conceal(&mut pcm);
    }
}
