use std::f64::consts::TAU as TURN;

use super::*;
use crate::test_noise::Chance;

/// What a sender of keys does, and what the line adds.
#[derive(Clone, Copy)]
struct Line {
    low_dbm0: f64,
    high_dbm0: f64,
    low_off: f64,
    high_off: f64,
    on_ms: f64,
    off_ms: f64,
    /// Noise below the sum of the tones.
    snr_db: Option<f64>,
    dial_tone_dbm0: Option<f64>,
    /// A silence in the middle of each tone.
    interruption_ms: f64,
    /// Delay of an echo and how far it is down.
    echo: Option<(f64, f64)>,
    start_ms: f64,
    seed: u64,
}

const CLEAR: Line = Line {
    low_dbm0: -10.0,
    high_dbm0: -10.0,
    low_off: 0.0,
    high_off: 0.0,
    on_ms: 50.0,
    off_ms: 50.0,
    snr_db: None,
    dial_tone_dbm0: None,
    interruption_ms: 0.0,
    echo: None,
    start_ms: 200.0,
    seed: 1,
};

const ALL_KEYS: &str = "123A456B789C*0#D";

impl Line {
    fn tone(&self, key: char, second: f64) -> f64 {
        let index = ALL_KEYS.find(key).unwrap();
        let low = f64::from(LOW_HZ[index / 4]) * (1.0 + self.low_off);
        let high = f64::from(HIGH_HZ[index % 4]) * (1.0 + self.high_off);
        peak_of(self.low_dbm0) * (TURN * low * second + 0.3).sin()
            + peak_of(self.high_dbm0) * (TURN * high * second + 1.1).sin()
    }

    fn keys(&self, keys: &str, at_ms: f64) -> f64 {
        let period = self.on_ms + self.off_ms;
        let since = at_ms - self.start_ms;
        if since < 0.0 {
            return 0.0;
        }
        let Some(key) = keys.chars().nth((since / period) as usize) else { return 0.0 };
        let within = since % period;
        let from_middle = (within - self.on_ms / 2.0).abs();
        if within >= self.on_ms || from_middle < self.interruption_ms / 2.0 {
            return 0.0;
        }
        self.tone(key, within / 1000.0)
    }

    fn audio(&self, keys: &str) -> Vec<i16> {
        let length_ms = self.start_ms + (self.on_ms + self.off_ms) * keys.len() as f64 + 200.0;
        let mut noise = Chance(self.seed);
        let tones = peak_of(self.low_dbm0).powi(2) / 2.0 + peak_of(self.high_dbm0).powi(2) / 2.0;
        let deviation = self.snr_db.map_or(0.0, |snr| (tones / 10f64.powf(snr / 10.0)).sqrt());
        let dial = self.dial_tone_dbm0.map_or(0.0, peak_of);
        let samples = (length_ms * 8.0) as usize / FRAME_SAMPLES * FRAME_SAMPLES;
        (0..samples)
            .map(|sample| {
                let ms = sample as f64 / 8.0;
                let echo = self.echo.map_or(0.0, |(delay_ms, down_db)| {
                    self.keys(keys, ms - delay_ms) / 10f64.powf(down_db / 20.0)
                });
                let value = self.keys(keys, ms)
                    + echo
                    + dial * (TURN * 450.0 * ms / 1000.0).sin()
                    + deviation * noise.normal();
                // As A-law carries it.
                use crate::g711::Law;
                Law::A.decode(Law::A.encode(value.round() as i16))
            })
            .collect()
    }

    fn presses(&self, keys: &str) -> Vec<Press> {
        listen(&self.audio(keys))
    }

    fn heard(&self, keys: &str) -> String {
        self.presses(keys).iter().map(|press| press.key).collect()
    }
}

fn listen(samples: &[i16]) -> Vec<Press> {
    let mut detector = DtmfDetector::default();
    samples.as_chunks().0.iter().filter_map(|frame| detector.hear(frame)).collect()
}

/// Starts at all places within a hop and a frame.
fn starts() -> impl Iterator<Item = f64> {
    (0..9).map(|step| 200.0 + f64::from(step) * 2.375)
}

#[test]
fn all_keys_are_recognised_at_all_levels() {
    for level in [0.0, -3.0, -10.0, -20.0, -25.0, -27.0] {
        let line = Line { low_dbm0: level, high_dbm0: level, ..CLEAR };
        assert_eq!(line.heard(ALL_KEYS), ALL_KEYS, "{level} dBm0");
    }
}

#[test]
fn weak_tones_are_refused() {
    for level in [-29.0, -35.0, -55.0] {
        let line = Line { low_dbm0: level, high_dbm0: level, ..CLEAR };
        assert_eq!(line.heard(ALL_KEYS), "", "{level} dBm0");
    }
}

#[test]
fn twist_is_accepted_within_its_limits_only() {
    for (twist, good) in
        [(4.0, true), (2.0, true), (-4.0, true), (-8.0, true), (8.0, false), (-11.0, false)]
    {
        let line = Line { high_dbm0: -12.0 + twist, low_dbm0: -12.0, ..CLEAR };
        assert_eq!(line.heard(ALL_KEYS), if good { ALL_KEYS } else { "" }, "{twist} dB");
    }
}

#[test]
fn frequencies_are_accepted_within_their_limits_only() {
    for off in [0.015, 0.018] {
        for (low_off, high_off) in [(off, off), (off, -off), (-off, off), (-off, -off)] {
            for start_ms in starts() {
                let line = Line { low_off, high_off, start_ms, on_ms: 40.0, off_ms: 40.0, ..CLEAR };
                assert_eq!(line.heard(ALL_KEYS), ALL_KEYS, "{low_off} {high_off} {start_ms}");
            }
        }
    }
    for off in [0.03, 0.035, 0.045] {
        for (low_off, high_off) in [(off, 0.0), (-off, 0.0), (0.0, off), (0.0, -off), (off, off)] {
            for start_ms in starts() {
                let line = Line { low_off, high_off, start_ms, on_ms: 100.0, ..CLEAR };
                assert_eq!(line.heard(ALL_KEYS), "", "{low_off} {high_off} {start_ms}");
            }
        }
    }
}

#[test]
fn short_tones_are_refused_and_short_presses_are_not() {
    for start_ms in starts() {
        for on_ms in [10.0, 20.0, 23.0, 24.0] {
            let line = Line { on_ms, start_ms, off_ms: 76.0, ..CLEAR };
            assert_eq!(line.heard(ALL_KEYS), "", "{on_ms} ms from {start_ms}");
        }
        for (on_ms, off_ms) in [(40.0, 40.0), (40.0, 30.0), (45.0, 48.0)] {
            let line = Line { on_ms, off_ms, start_ms, ..CLEAR };
            assert_eq!(line.heard(ALL_KEYS), ALL_KEYS, "{on_ms}/{off_ms} ms from {start_ms}");
            // The same key again and again is as many presses.
            assert_eq!(line.heard("5555"), "5555", "{on_ms}/{off_ms} ms from {start_ms}");
        }
    }
}

#[test]
fn interruptions_are_bridged() {
    for interruption_ms in [2.0, 5.0, 10.0, 12.0] {
        for start_ms in starts() {
            let line = Line { interruption_ms, start_ms, on_ms: 100.0, ..CLEAR };
            assert_eq!(line.heard("1590"), "1590", "{interruption_ms} ms from {start_ms}");
        }
    }
}

#[test]
fn noise_and_twist_together_are_borne() {
    for seed in 1..=6 {
        for (low_dbm0, high_dbm0) in
            [(-10.0, -10.0), (-10.0, -18.0), (-14.0, -10.0), (-17.0, -25.0)]
        {
            let line = Line { low_dbm0, high_dbm0, snr_db: Some(15.0), seed, ..CLEAR };
            assert_eq!(line.heard(ALL_KEYS), ALL_KEYS, "{low_dbm0} {high_dbm0} {seed}");
        }
    }
}

#[test]
fn noise_and_wrong_frequencies_together_are_judged_rightly() {
    for seed in 1..=4 {
        let line = Line { snr_db: Some(15.0), seed, on_ms: 60.0, ..CLEAR };
        let accepted = Line { low_off: 0.015, high_off: -0.015, ..line };
        assert_eq!(accepted.heard(ALL_KEYS), ALL_KEYS, "{seed}");
        let refused = Line { low_off: 0.035, high_off: -0.035, ..line };
        assert_eq!(refused.heard(ALL_KEYS), "", "{seed}");
    }
}

#[test]
fn keys_are_heard_over_a_dial_tone_and_its_echo() {
    for dial_tone_dbm0 in [-20.0, -13.0, -10.0, -7.0] {
        for start_ms in starts() {
            let line = Line { dial_tone_dbm0: Some(dial_tone_dbm0), start_ms, ..CLEAR };
            assert_eq!(line.heard(ALL_KEYS), ALL_KEYS, "{dial_tone_dbm0} {start_ms}");
        }
    }
    for start_ms in starts() {
        for delay_ms in [5.0, 11.0, 20.0] {
            let line =
                Line { echo: Some((delay_ms, 10.0)), on_ms: 45.0, off_ms: 48.0, start_ms, ..CLEAR };
            assert_eq!(line.heard(ALL_KEYS), ALL_KEYS, "{delay_ms} {start_ms}");
            assert_eq!(line.heard("5555"), "5555", "{delay_ms} {start_ms}");
        }
    }
}

#[test]
fn a_press_is_as_long_as_its_tone() {
    for on_ms in [40.0, 60.0, 100.0, 250.0, 1000.0] {
        for start_ms in starts() {
            for press in (Line { on_ms, start_ms, ..CLEAR }).presses("159") {
                let off = f64::from(press.duration_ms) - on_ms;
                assert!(off.abs() <= 6.0, "{on_ms}: {press:?}");
            }
        }
    }
}

#[test]
fn dial_tone_fax_and_single_tones_are_no_keys() {
    for hz in (300..3400).step_by(7) {
        let audio: Vec<i16> = (0..8000)
            .map(|at| (8000.0 * (TURN * f64::from(hz) * f64::from(at) / 8000.0).sin()) as i16)
            .collect();
        assert_eq!(listen(&audio), [], "{hz} Hz");
    }
}

#[test]
fn noise_is_no_key() {
    let mut noise = Chance(7);
    // Three minutes at -12 dBm0.
    let audio: Vec<i16> = (0..8000 * 180).map(|_| (3982.0 * noise.normal()) as i16).collect();
    assert_eq!(listen(&audio), []);
}
