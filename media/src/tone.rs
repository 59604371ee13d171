//! Tones as PCM: China's call-progress tones, DTMF and the tones of fax machines.
//!
//! Frequencies, cadences and levels are those of GB/T 3380-1982 (ringing current and signal tones
//! of the automatic telephone network), which ITU-T E.180 supplement 2 lists for China; keys are
//! ITU-T Q.23, fax tones ITU-T T.30 and V.25.

use std::f64::consts::TAU;

use crate::g711::FRAME_SAMPLES;

/// Samples a second of the engine's audio.
pub const SAMPLE_RATE_HZ: u32 = 8000;

/// Level of a sine that just fills A-law and 16 bits, G.711 table 5; not pi.
#[allow(clippy::approx_constant)]
const FULL_SCALE_DBM0: f64 = 3.14;

const FULL_SCALE: f64 = 32_768.0;

/// A burst fades in and out over this long, so that it does not click.
const FADE_SAMPLES: usize = 24;

/// Row frequencies of the keys, Q.23.
pub const LOW_HZ: [u16; 4] = [697, 770, 852, 941];

/// Column frequencies of the keys, Q.23.
pub const HIGH_HZ: [u16; 4] = [1209, 1336, 1477, 1633];

/// The keys by row and column.
pub const KEYPAD: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Level of each frequency of a key we send. The column is 2 dB louder, since lines lose more of
/// it; the sum stays below what G.711 can carry.
const KEY_DBM0: [f64; 2] = [-9.0, -7.0];

/// Peak of a sine of this level.
#[must_use]
pub fn peak_of(level_dbm0: f64) -> f64 {
    FULL_SCALE * 10f64.powf((level_dbm0 - FULL_SCALE_DBM0) / 20.0)
}

/// Level of audio with this mean square.
#[must_use]
pub fn level_of(mean_square: f64) -> f64 {
    10.0 * (mean_square.max(1e-3) / (FULL_SCALE * FULL_SCALE / 2.0)).log10() + FULL_SCALE_DBM0
}

/// A tone the engine can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tone {
    /// 拨号音: the network waits for digits.
    Dial,
    /// 特种拨号音: as `Dial`, and a service such as diversion is on.
    SpecialDial,
    /// 回铃音: the called phone rings.
    Ringback,
    /// 忙音: the called party is busy.
    Busy,
    /// 拥塞音: no way through the network.
    Congestion,
    /// 空号音: no such number.
    Unobtainable,
    /// 长途通知音: a toll call waits for a party in conversation.
    TollNotice,
    /// 呼入等待音: another call waits.
    CallWaiting,
    /// 提醒音: a third party is in the conversation.
    Reminder,
    /// 催挂音: hang up, please. The standard's loudest steps are beyond what G.711 can carry.
    Howler,
    /// Calling fax, T.30 section 4: CNG.
    FaxCalling,
    /// Called fax, T.30 and V.25: CED.
    FaxAnswer,
}

/// One part of a cadence; a level of None is silence.
#[derive(Clone, Copy, Debug)]
struct Part {
    hz: u16,
    level_dbm0: Option<f64>,
    length_ms: u32,
}

const fn on(hz: u16, level_dbm0: f64, length_ms: u32) -> Part {
    Part { hz, level_dbm0: Some(level_dbm0), length_ms }
}

const fn off(length_ms: u32) -> Part {
    Part { hz: 0, level_dbm0: None, length_ms }
}

/// Frequency of all tones that tell of a call's progress.
pub const PROGRESS_HZ: u16 = 450;

impl Tone {
    /// All tones.
    pub const ALL: [Self; 12] = [
        Self::Dial,
        Self::SpecialDial,
        Self::Ringback,
        Self::Busy,
        Self::Congestion,
        Self::Unobtainable,
        Self::TollNotice,
        Self::CallWaiting,
        Self::Reminder,
        Self::Howler,
        Self::FaxCalling,
        Self::FaxAnswer,
    ];

    /// The name by which the call model asks for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::SpecialDial => "special_dial",
            Self::Ringback => "ringback",
            Self::Busy => "busy",
            Self::Congestion => "congestion",
            Self::Unobtainable => "unobtainable",
            Self::TollNotice => "toll_notice",
            Self::CallWaiting => "call_waiting",
            Self::Reminder => "reminder",
            Self::Howler => "howler",
            Self::FaxCalling => "fax_calling",
            Self::FaxAnswer => "fax_answer",
        }
    }

    /// The tone of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tone| tone.name() == name)
    }

    fn cadence(self) -> &'static [Part] {
        const LOUD: f64 = -10.0;
        const SOFT: f64 = -20.0;
        match self {
            Self::Dial => const { &[on(PROGRESS_HZ, LOUD, 1000)] },
            Self::SpecialDial => const { &[on(PROGRESS_HZ, LOUD, 400), off(40)] },
            Self::Ringback => const { &[on(PROGRESS_HZ, LOUD, 1000), off(4000)] },
            Self::Busy => const { &[on(PROGRESS_HZ, LOUD, 350), off(350)] },
            Self::Congestion => const { &[on(PROGRESS_HZ, LOUD, 700), off(700)] },
            Self::Unobtainable => {
                const SHORT: Part = on(PROGRESS_HZ, LOUD, 100);
                const GAP: Part = off(100);
                const LONG: Part = on(PROGRESS_HZ, LOUD, 400);
                const { &[SHORT, GAP, SHORT, GAP, SHORT, GAP, LONG, off(400)] }
            }
            Self::TollNotice => {
                const SHORT: Part = on(PROGRESS_HZ, SOFT, 200);
                const { &[SHORT, off(200), SHORT, off(600)] }
            }
            Self::CallWaiting => const { &[on(PROGRESS_HZ, SOFT, 400), off(4000)] },
            Self::Reminder => const { &[on(1400, SOFT, 400), off(10_000)] },
            Self::Howler => {
                const {
                    &[
                        on(950, -20.0, 2000),
                        on(950, -15.0, 2000),
                        on(950, -10.0, 2000),
                        on(950, -5.0, 2000),
                        on(950, 0.0, 2000),
                    ]
                }
            }
            Self::FaxCalling => const { &[on(1100, LOUD, 500), off(3000)] },
            Self::FaxAnswer => const { &[on(2100, LOUD, 3300)] },
        }
    }

    /// One period, which may be looped: its last sample is followed by its first without a step.
    #[must_use]
    pub fn period(self) -> Vec<i16> {
        let cadence = self.cadence();
        let mut samples = Vec::new();
        for (index, part) in cadence.iter().enumerate() {
            let len = (part.length_ms * SAMPLE_RATE_HZ / 1000) as usize;
            let Some(level) = part.level_dbm0 else {
                samples.resize(samples.len() + len, 0);
                continue;
            };
            // Towards silence a burst fades; where tone follows tone the phase just goes on.
            let neighbour =
                |offset: usize| cadence[(index + offset) % cadence.len()].level_dbm0.is_some();
            let (rises, falls) = (!neighbour(cadence.len() - 1), !neighbour(1));
            let peak = peak_of(level);
            let mut oscillator = Oscillator::new(part.hz);
            samples.extend((0..len).map(|at| {
                let from_start = if rises { at + 1 } else { FADE_SAMPLES };
                let from_end = if falls { len - at } else { FADE_SAMPLES };
                let fade = from_start.min(from_end).min(FADE_SAMPLES) as f64 / FADE_SAMPLES as f64;
                to_sample(peak * fade * oscillator.next_sine())
            }));
        }
        samples
    }
}

/// A sine whose phase is counted in whole numbers, so that it never drifts.
#[derive(Clone, Copy, Debug)]
struct Oscillator {
    hz: u32,
    /// Phase in parts of `SAMPLE_RATE_HZ` of a turn.
    phase: u32,
}

impl Oscillator {
    fn new(hz: u16) -> Self {
        Self { hz: hz.into(), phase: 0 }
    }

    fn next_sine(&mut self) -> f64 {
        let sine = (f64::from(self.phase) / f64::from(SAMPLE_RATE_HZ) * TAU).sin();
        self.phase = (self.phase + self.hz) % SAMPLE_RATE_HZ;
        sine
    }
}

fn to_sample(value: f64) -> i16 {
    value.round() as i16 // the cast saturates
}

/// Makes the tone of one key, frame by frame.
#[derive(Clone, Copy, Debug)]
pub struct KeyTone {
    oscillators: [Oscillator; 2],
    began: bool,
}

impl KeyTone {
    /// The tone of `0-9*#A-D`.
    #[must_use]
    pub fn new(key: char) -> Option<Self> {
        let key = key.to_ascii_uppercase();
        let (row, column) = (0..16)
            .map(|index| (index / 4, index % 4))
            .find(|(row, column)| KEYPAD[*row][*column] == key)?;
        let oscillators = [Oscillator::new(LOW_HZ[row]), Oscillator::new(HIGH_HZ[column])];
        Some(Self { oscillators, began: false })
    }

    /// The next 20 ms; the last frame of a press fades out.
    pub fn fill(&mut self, pcm: &mut [i16; FRAME_SAMPLES], last: bool) {
        let peaks = KEY_DBM0.map(peak_of);
        let rises = !std::mem::replace(&mut self.began, true);
        for (at, sample) in pcm.iter_mut().enumerate() {
            let from_start = if rises { at + 1 } else { FADE_SAMPLES };
            let from_end = if last { FRAME_SAMPLES - at } else { FADE_SAMPLES };
            let fade = from_start.min(from_end).min(FADE_SAMPLES) as f64 / FADE_SAMPLES as f64;
            let [low, high] = &mut self.oscillators;
            let sum = peaks[0] * low.next_sine() + peaks[1] * high.next_sine();
            *sample = to_sample(fade * sum);
        }
    }
}

#[cfg(test)]
mod tests;
