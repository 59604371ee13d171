use super::*;

fn mean_square(samples: &[i16]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64
}

/// On and off times in ms, with the level of each on time.
fn measured(samples: &[i16]) -> Vec<(usize, Option<f64>)> {
    let mut parts: Vec<(usize, Option<f64>)> = Vec::new();
    for frame in samples.chunks_exact(80) {
        let square = mean_square(frame);
        let level = (square > 0.0).then(|| level_of(square));
        match parts.last_mut() {
            Some((ms, last)) if last.is_some() == level.is_some() => {
                *ms += 10;
                *last = last.zip(level).map(|(a, b)| a.max(b));
            }
            _ => parts.push((10, level)),
        }
    }
    parts
}

#[test]
fn cadences_and_levels_are_those_of_the_plan() {
    let expect = |tone: Tone, parts: &[(usize, Option<f64>)]| {
        let found = measured(&tone.period());
        assert_eq!(found.len(), parts.len(), "{tone:?}: {found:?}");
        for ((found_ms, found_level), (ms, level)) in found.iter().zip(parts) {
            assert_eq!(found_ms, ms, "{tone:?}");
            match (found_level, level) {
                (Some(found), Some(level)) => assert!((found - level).abs() < 0.3, "{tone:?}"),
                _ => assert_eq!(found_level.is_some(), level.is_some(), "{tone:?}"),
            }
        }
    };
    let loud = Some(-10.0);
    expect(Tone::Dial, &[(1000, loud)]);
    expect(Tone::SpecialDial, &[(400, loud), (40, None)]);
    expect(Tone::Ringback, &[(1000, loud), (4000, None)]);
    expect(Tone::Busy, &[(350, loud), (350, None)]);
    expect(Tone::Congestion, &[(700, loud), (700, None)]);
    let short = [(100, loud), (100, None)];
    let unobtainable = [&short[..], &short, &short, &[(400, loud), (400, None)]].concat();
    expect(Tone::Unobtainable, &unobtainable);
    expect(Tone::CallWaiting, &[(400, Some(-20.0)), (4000, None)]);
    expect(Tone::FaxCalling, &[(500, loud), (3000, None)]);
    expect(Tone::FaxAnswer, &[(3300, loud)]);
    expect(Tone::Howler, &[(10_000, Some(0.0))]);
}

#[test]
fn a_loop_has_no_step() {
    for tone in Tone::ALL {
        let period = tone.period();
        let steepest = |samples: &[i16]| {
            samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max()
        };
        let seam = [period[period.len() - 1], period[0]];
        assert!(steepest(&seam) <= steepest(&period[1..]), "{tone:?}");
    }
}

#[test]
fn frequencies_are_exact() {
    for tone in Tone::ALL {
        let part = tone.cadence()[0];
        let len = (part.length_ms * 8) as usize;
        let burst = &tone.period()[..len];
        // Rising zero crossings; the first sample is at phase zero.
        let crossings = burst.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        let expected = f64::from(part.length_ms * u32::from(part.hz)) / 1000.0;
        assert!((crossings as f64 - expected).abs() <= 1.0, "{tone:?} {crossings} {expected}");
    }
}

#[test]
fn names_are_found_again() {
    for tone in Tone::ALL {
        assert_eq!(Tone::named(tone.name()), Some(tone));
    }
    assert_eq!(Tone::named("lullaby"), None);
}

#[test]
fn a_key_has_its_two_frequencies_at_their_levels() {
    let mut tone = KeyTone::new('d').unwrap();
    let mut samples = Vec::new();
    for frame in 0..50 {
        let mut pcm = [0; FRAME_SAMPLES];
        tone.fill(&mut pcm, frame == 49);
        samples.extend_from_slice(&pcm);
    }
    let level_at = |hz: f64| {
        let (mut re, mut im) = (0.0, 0.0);
        for (at, sample) in samples.iter().enumerate() {
            let phase = TAU * hz * at as f64 / 8000.0;
            re += f64::from(*sample) * phase.cos();
            im += f64::from(*sample) * phase.sin();
        }
        level_of((re * re + im * im) * 2.0 / (samples.len() as f64).powi(2))
    };
    assert!((level_at(941.0) + 9.0).abs() < 0.1);
    assert!((level_at(1633.0) + 7.0).abs() < 0.1);
    assert!(level_at(1209.0) < -50.0);
    assert!(samples[0].abs() < 1000 && samples[samples.len() - 1].abs() < 1000);
    assert!(KeyTone::new('x').is_none());
}
