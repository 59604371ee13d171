//! What the network and fax machines tell by tones: ringback, busy, congestion, no such number,
//! dial tone (GB/T 3380-1982), CNG and CED (ITU-T T.30), ANSam (ITU-T V.8).
//!
//! A frame of 20 ms is one pure tone or it is not; runs of such frames make cadences. One frame
//! that is spoilt, by loss or by a phase reversal of an echo canceller disabler, breaks no run.

use std::f64::consts::TAU;

use crate::g711::FRAME_MS;
use crate::single_tone::Heard;

/// A tone that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// 拨号音.
    Dial,
    /// 回铃音.
    Ringback,
    /// 忙音.
    Busy,
    /// 拥塞音.
    Congestion,
    /// 空号音.
    Unobtainable,
    /// A fax machine calls: CNG.
    FaxCalling,
    /// A fax machine or a modem answers: CED, or ANS with its phase reversals.
    FaxAnswer,
    /// A V.8 modem or fax answers: ANSam, which swells at 15 Hz.
    ModemAnswer,
}

impl Signal {
    /// The name by which the call model knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Ringback => "ringback",
            Self::Busy => "busy",
            Self::Congestion => "congestion",
            Self::Unobtainable => "unobtainable",
            Self::FaxCalling => "fax_calling",
            Self::FaxAnswer => "fax_answer",
            Self::ModemAnswer => "modem_answer",
        }
    }
}

/// Tones that detectors keep apart, and how far each may be off: 25 Hz in GB/T 3380, 38 Hz for
/// CNG and 15 Hz for CED in T.30, and a margin for noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pitch {
    Progress,
    Calling,
    Answer,
}

impl Pitch {
    fn of(hz: f64) -> Option<Self> {
        [(Self::Progress, 450.0, 35.0), (Self::Calling, 1100.0, 45.0), (Self::Answer, 2100.0, 25.0)]
            .into_iter()
            .find(|(_, centre, off)| (hz - centre).abs() <= *off)
            .map(|(pitch, ..)| pitch)
    }
}

/// Continuous for so long it is dial tone: the longest burst of another tone is 1 s.
const DIAL_MS: u32 = 2000;
/// Ringback is told when its burst has been followed by this much silence; call waiting and
/// others are shorter, and the whole pause of 4 s would be a long wait.
const RINGBACK_PAUSE_MS: u32 = 1500;
/// Without any 450 Hz for so long the cadence is over, and the same tone is news again.
const FORGET_MS: u32 = 8000;
/// T.30: CNG lasts 0.5 s within 15 %; a frame more at either end.
const CALLING_MS: std::ops::RangeInclusive<u32> = 400..=620;
/// Whole periods of 15 Hz and of frames.
const ANSWER_MS: u32 = 600;
const ANSWER_FRAMES: usize = (ANSWER_MS / FRAME_MS) as usize;
/// Modulation of ANSam is 20 %; what noise makes of a steady tone is far less than half of it.
const MIN_MODULATION: f64 = 0.1;
/// Bursts and pauses remembered: the pairs of 空号音.
const PAIRS: usize = 4;

/// One burst and the pause after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    on_ms: u32,
    off_ms: u32,
}

impl Pair {
    fn is(self, on: std::ops::RangeInclusive<u32>, off: std::ops::RangeInclusive<u32>) -> bool {
        on.contains(&self.on_ms) && off.contains(&self.off_ms)
    }

    fn is_busy(self) -> bool {
        self.is(280..=420, 280..=420)
    }

    fn is_congestion(self) -> bool {
        self.is(580..=820, 580..=820)
    }

    fn is_short(self) -> bool {
        self.is(60..=140, 60..=140)
    }

    fn is_long(self) -> bool {
        self.is(320..=480, 320..=480)
    }
}

/// A run of frames of one pitch, or of none.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    pitch: Option<Pitch>,
    ms: u32,
    told: bool,
}

/// Of the frames of an answer tone.
#[derive(Clone, Copy, Debug, Default)]
struct Amplitudes {
    values: [f64; ANSWER_FRAMES],
    count: usize,
}

impl Amplitudes {
    fn is_full(&self) -> bool {
        self.count == ANSWER_FRAMES
    }

    fn push(&mut self, value: f64) {
        if let Some(free) = self.values.get_mut(self.count) {
            *free = value;
            self.count += 1;
        }
    }

    /// How much they swell at 15 Hz.
    fn modulation(&self) -> f64 {
        let (mut re, mut im, mut sum) = (0.0, 0.0, 0.0);
        for (frame, amplitude) in self.values.iter().enumerate() {
            let phase = TAU * 15.0 * frame as f64 * f64::from(FRAME_MS) / 1000.0;
            re += amplitude * phase.cos();
            im += amplitude * phase.sin();
            sum += amplitude;
        }
        2.0 * re.hypot(im) / sum.max(f64::MIN_POSITIVE)
    }
}

/// Listens to one port for the tones of the network.
#[derive(Debug, Default)]
pub struct ProgressDetector {
    run: Run,
    /// A frame that did not fit in the run; a second one ends it.
    odd: Option<Option<Pitch>>,
    /// The burst before the pause that lasts now.
    burst_ms: u32,
    pairs: [Pair; PAIRS],
    pair_count: usize,
    last_told: Option<Signal>,
    quiet_ms: u32,
    amplitudes: Amplitudes,
}

impl ProgressDetector {
    /// Takes the next 20 ms; returns a tone when it is recognised, once for as long as it lasts.
    pub fn hear(&mut self, heard: &Heard) -> Option<Signal> {
        let pitch = heard.tone_hz.and_then(Pitch::of);
        self.track_amplitude(pitch, heard.level_dbm0);
        let mut signal = None;
        if pitch == self.run.pitch {
            // What was odd was an accident within the run.
            self.run.ms += FRAME_MS * (1 + u32::from(self.odd.take().is_some()));
        } else if let Some(odd) = self.odd.take() {
            let next = Run { pitch, ms: FRAME_MS * (1 + u32::from(odd == pitch)), told: false };
            let ended = std::mem::replace(&mut self.run, next);
            signal = self.end(ended);
        } else {
            self.odd = Some(pitch);
        }
        let signal = signal.or_else(|| self.lasts());
        self.tell(signal, pitch)
    }

    /// A cadence that goes on is told once.
    fn tell(&mut self, signal: Option<Signal>, pitch: Option<Pitch>) -> Option<Signal> {
        self.quiet_ms = if pitch.is_some() { 0 } else { self.quiet_ms + FRAME_MS };
        if self.quiet_ms >= FORGET_MS {
            self.last_told = None;
            self.pair_count = 0;
        }
        let signal = signal.filter(|signal| self.last_told != Some(*signal))?;
        self.last_told = Some(signal);
        Some(signal)
    }

    fn end(&mut self, run: Run) -> Option<Signal> {
        match (run.pitch, self.run.pitch) {
            (Some(Pitch::Progress), _) => {
                self.burst_ms = run.ms;
                None
            }
            (None, Some(Pitch::Progress)) if self.burst_ms > 0 => {
                let pair = Pair { on_ms: std::mem::take(&mut self.burst_ms), off_ms: run.ms };
                self.pairs.rotate_left(1);
                self.pairs[PAIRS - 1] = pair;
                self.pair_count += 1;
                self.cadence()
            }
            (Some(Pitch::Calling), None) if CALLING_MS.contains(&run.ms) => {
                Some(Signal::FaxCalling)
            }
            _ => None,
        }
    }

    fn cadence(&self) -> Option<Signal> {
        let [.., former, last] = self.pairs;
        if self.pair_count >= 2 && former.is_busy() && last.is_busy() {
            return Some(Signal::Busy);
        }
        if self.pair_count >= 2 && former.is_congestion() && last.is_congestion() {
            return Some(Signal::Congestion);
        }
        let long = self.pairs.iter().filter(|pair| pair.is_long()).count();
        let short = self.pairs.iter().filter(|pair| pair.is_short()).count();
        (self.pair_count >= PAIRS && long == 1 && short == PAIRS - 1)
            .then_some(Signal::Unobtainable)
    }

    /// What is told by how long the present run lasts.
    fn lasts(&mut self) -> Option<Signal> {
        if self.run.told {
            return None;
        }
        let signal = match self.run.pitch {
            Some(Pitch::Progress) if self.run.ms >= DIAL_MS => Signal::Dial,
            None if self.run.ms >= RINGBACK_PAUSE_MS && (800..=1200).contains(&self.burst_ms) => {
                Signal::Ringback
            }
            Some(Pitch::Answer) if self.amplitudes.is_full() => self.answer_tone(),
            _ => return None,
        };
        self.run.told = true;
        Some(signal)
    }

    fn track_amplitude(&mut self, pitch: Option<Pitch>, level_dbm0: f64) {
        let amplitudes = &mut self.amplitudes;
        if pitch == Some(Pitch::Answer) {
            amplitudes.push(10f64.powf(level_dbm0 / 20.0));
        } else if self.run.pitch != Some(Pitch::Answer) || self.odd.is_some() {
            amplitudes.count = 0;
        } else if amplitudes.count > 0 {
            amplitudes.push(amplitudes.values[amplitudes.count - 1]);
        }
    }

    fn answer_tone(&self) -> Signal {
        if self.amplitudes.modulation() >= MIN_MODULATION {
            Signal::ModemAnswer
        } else {
            Signal::FaxAnswer
        }
    }
}

#[cfg(test)]
mod tests;
