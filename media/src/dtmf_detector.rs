//! Keys heard as tones in the audio: ITU-T Q.24.
//!
//! Every 5 ms the last 20 ms are compared, under a Hann window, with the eight frequencies. A hit
//! is a window that holds one row and one column frequency and next to nothing else; the phase
//! each of them has turned since the window before tells its frequency to about 1 Hz, which a
//! window this short could not tell by its amplitude. Hits make a press, misses end it.
//!
//! The limits satisfy the columns of Q.24 table A-1 for NTT, AT&T and Australia at once where they
//! allow it, and AT&T's where they differ: 1.8 % off is accepted and 3 % refused, -27 dBm accepted
//! and -29 dBm refused, columns from 4 dB above to 8 dB below rows, 40 ms accepted and 24 ms
//! refused, pauses of 30 ms seen and interruptions of 12 ms bridged, echoes of 20 ms 10 dB down.

use std::f32::consts::TAU;
use std::sync::LazyLock;

use crate::dtmf::Press;
use crate::g711::FRAME_SAMPLES;
use crate::tone::{HIGH_HZ, KEYPAD, LOW_HZ, PROGRESS_HZ, SAMPLE_RATE_HZ, peak_of};

const WINDOW: usize = 160;
const HOP: usize = 40;
const HOP_MS: u32 = 5;
const HOPS_PER_FRAME: usize = FRAME_SAMPLES / HOP;
const TAIL: usize = WINDOW - HOP;

/// Frequencies compared: rows, columns and the network's dial tone.
const BINS: usize = 9;
const DIAL: usize = 8;
/// Real and imaginary parts, rounded up to whole vectors.
const LANES: usize = 20;

/// Least level of each frequency.
const MIN_LEVEL_DBM0: f64 = -28.0;
/// A row may be stronger than its column by this, and weaker by `MAX_REVERSE_TWIST_DB`.
const MAX_TWIST_DB: f32 = 9.5;
const MAX_REVERSE_TWIST_DB: f32 = 6.5;
/// Greatest distance from the nominal frequency, between the 1.8 % and the 3 % of NTT.
const MAX_DEVIATION: f32 = 0.024;
/// Least share of the two tones in all that is heard: noise 9 dB below them is let through.
const MIN_PURITY: f32 = 0.89;
/// Hits that make a press. A tone makes one each 5 ms that it is longer than 6 ms or so.
const HITS_TO_BEGIN: u32 = 4;
/// Misses that end a press.
const MISSES_TO_END: u32 = 7;
/// A tone this far below the level of its press is an echo of it, as a ratio of powers.
const ECHO_RATIO: f32 = 0.25;
/// Levels may rise and fall by this while a press begins; speech does more.
const MAX_UNSTEADINESS: f32 = 2.5;
/// A tone lasts longer than the time between its first and its last hit.
const UNSEEN_MS: u32 = 9;
/// Hops after which a dial tone counts as steady.
const STEADY_DIAL_HOPS: u32 = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Complex {
    re: f32,
    im: f32,
}

impl Complex {
    fn square(self) -> f32 {
        self.re * self.re + self.im * self.im
    }

    /// The angle by which `self` is ahead of `before` turned by `turn`.
    fn angle_since(self, before: Self, turn: Self) -> f32 {
        let expected = Self {
            re: before.re * turn.re - before.im * turn.im,
            im: before.re * turn.im + before.im * turn.re,
        };
        let im = self.im * expected.re - self.re * expected.im;
        let re = self.re * expected.re + self.im * expected.im;
        im.atan2(re)
    }
}

struct Tables {
    window: [f32; WINDOW],
    /// The window times cosine and minus sine of each bin, by sample.
    kernel: [[f32; LANES]; WINDOW],
    /// How far the phase of each bin turns in a hop.
    turn: [Complex; BINS],
    hz: [f32; BINS],
    /// Least mean square in a window that may hold a key.
    min_power: f32,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut hz = [f32::from(PROGRESS_HZ); BINS];
    for (bin, nominal) in LOW_HZ.iter().chain(&HIGH_HZ).enumerate() {
        hz[bin] = f32::from(*nominal);
    }
    let mut window = [0.0; WINDOW];
    let mut kernel = [[0.0; LANES]; WINDOW];
    for at in 0..WINDOW {
        window[at] = (1.0 - (TAU * (at as f32 + 0.5) / WINDOW as f32).cos()) / WINDOW as f32;
        for bin in 0..BINS {
            let phase = phase_after(hz[bin], at);
            kernel[at][2 * bin] = window[at] * phase.re;
            kernel[at][2 * bin + 1] = -window[at] * phase.im;
        }
    }
    let turn = hz.map(|hz| phase_after(hz, HOP));
    // A sine's mean square is half the square of its peak.
    let min_power = (peak_of(MIN_LEVEL_DBM0).powi(2) / 2.0) as f32;
    Tables { window, kernel, turn, hz, min_power }
});

fn phase_after(hz: f32, samples: usize) -> Complex {
    let turns = f64::from(hz) * samples as f64 / f64::from(SAMPLE_RATE_HZ);
    let (im, re) = (turns.fract() * f64::from(TAU)).sin_cos();
    Complex { re: re as f32, im: im as f32 }
}

/// What one window holds.
#[derive(Clone, Copy, Debug)]
struct Hit {
    key: char,
    /// Mean squares of row and column.
    powers: [f32; 2],
}

/// Listens to one port.
#[derive(Debug)]
pub struct DtmfDetector {
    tail: [i16; TAIL],
    /// Of the window before.
    bins: [Complex; BINS],
    dial_hops: u32,
    candidate: Option<Candidate>,
    press: Option<Pressed>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    key: char,
    hits: u32,
    strongest: [f32; 2],
    weakest: [f32; 2],
}

#[derive(Clone, Copy, Debug)]
struct Pressed {
    key: char,
    hops: u32,
    misses: u32,
    power: f32,
}

impl Pressed {
    fn end(self) -> Press {
        Press { key: self.key, duration_ms: (self.hops - self.misses) * HOP_MS + UNSEEN_MS }
    }
}

impl Default for DtmfDetector {
    fn default() -> Self {
        Self {
            tail: [0; TAIL],
            bins: [Complex::default(); BINS],
            dial_hops: 0,
            candidate: None,
            press: None,
        }
    }
}

impl DtmfDetector {
    /// Takes the next 20 ms; returns a key when it has been released.
    pub fn hear(&mut self, pcm: &[i16; FRAME_SAMPLES]) -> Option<Press> {
        let mut samples = [0.0; TAIL + FRAME_SAMPLES];
        for (sample, heard) in samples.iter_mut().zip(self.tail.iter().chain(pcm)) {
            *sample = f32::from(*heard);
        }
        self.tail.copy_from_slice(&pcm[FRAME_SAMPLES - TAIL..]);
        let mut released = None;
        for hop in 0..HOPS_PER_FRAME {
            let window = &samples[hop * HOP..][..WINDOW];
            let hit = self.examine(window);
            released = self.advance(hit).or(released);
        }
        released
    }

    /// The key held down at the moment.
    #[must_use]
    pub fn held(&self) -> Option<char> {
        self.press.map(|press| press.key)
    }

    fn examine(&mut self, window: &[f32]) -> Option<Hit> {
        let tables = &*TABLES;
        let power = weighted_power(window, &tables.window);
        if power < tables.min_power {
            self.bins = [Complex::default(); BINS];
            self.dial_hops = 0;
            return None;
        }
        let mut sums = [0.0f32; LANES];
        for (sample, row) in window.iter().zip(&tables.kernel) {
            for (sum, factor) in sums.iter_mut().zip(row) {
                *sum += sample * factor;
            }
        }
        let mut bins = [Complex::default(); BINS];
        for (bin, pair) in bins.iter_mut().zip(sums.chunks_exact(2)) {
            *bin = Complex { re: pair[0], im: pair[1] };
        }
        let before = std::mem::replace(&mut self.bins, bins);
        let dial = self.steady_dial_power(before, power);
        self.judge(before, power - dial)
    }

    /// The power of the dial tone, once it has been steady for a while: callers press their first
    /// key over it, whereas a voice that passes 450 Hz must not be taken out of the balance.
    fn steady_dial_power(&mut self, before: [Complex; BINS], power: f32) -> f32 {
        let (dial, deviation) = self.measure(DIAL, before);
        let lasts = deviation.abs() < 1.5 * MAX_DEVIATION && dial > 0.05 * power;
        self.dial_hops = if lasts { self.dial_hops + 1 } else { 0 };
        if self.dial_hops >= STEADY_DIAL_HOPS { dial } else { 0.0 }
    }

    /// Mean square of the tone near a bin, and how far it is from it as a share of the frequency.
    fn measure(&self, bin: usize, before: [Complex; BINS]) -> (f32, f32) {
        let tables = &*TABLES;
        let angle = self.bins[bin].angle_since(before[bin], tables.turn[bin]);
        let off_hz = angle / TAU * SAMPLE_RATE_HZ as f32 / HOP as f32;
        let loss = window_response(off_hz * WINDOW as f32 / SAMPLE_RATE_HZ as f32);
        (2.0 * self.bins[bin].square() / (loss * loss), off_hz / tables.hz[bin])
    }

    fn judge(&self, before: [Complex; BINS], power: f32) -> Option<Hit> {
        let strongest = |range: std::ops::Range<usize>| {
            range.max_by(|a, b| self.bins[*a].square().total_cmp(&self.bins[*b].square()))
        };
        let (row, column) = (strongest(0..4)?, strongest(4..8)?);
        // Most windows of speech end here, before any trigonometry.
        if 2.0 * (self.bins[row].square() + self.bins[column].square()) < 0.6 * power {
            return None;
        }
        let (low, low_deviation) = self.measure(row, before);
        let (high, high_deviation) = self.measure(column, before);
        let good = low.min(high) >= TABLES.min_power
            && low_deviation.abs() <= MAX_DEVIATION
            && high_deviation.abs() <= MAX_DEVIATION
            && low + high >= MIN_PURITY * power
            && low <= high * db(MAX_TWIST_DB)
            && high <= low * db(MAX_REVERSE_TWIST_DB);
        good.then(|| Hit { key: KEYPAD[row][column - 4], powers: [low, high] })
    }

    fn advance(&mut self, hit: Option<Hit>) -> Option<Press> {
        if let Some(press) = &mut self.press {
            press.hops += 1;
            let power = hit.map_or(0.0, |hit| hit.powers[0] + hit.powers[1]);
            let same = hit.is_some_and(|hit| hit.key == press.key);
            if same && power > press.power * ECHO_RATIO {
                press.power = press.power.max(power);
                press.misses = 0;
                self.candidate = None;
                return None;
            }
            press.misses += 1;
            if press.misses >= MISSES_TO_END {
                self.candidate = None;
                return self.press.take().map(Pressed::end);
            }
            if same {
                return None;
            }
        }
        let Some(hit) = hit else {
            self.candidate = None;
            return None;
        };
        let begun = self.consider(hit)?;
        self.press.replace(begun).map(Pressed::end)
    }

    fn consider(&mut self, hit: Hit) -> Option<Pressed> {
        let fresh = Candidate { key: hit.key, hits: 0, strongest: hit.powers, weakest: hit.powers };
        let former = self.candidate.filter(|candidate| candidate.key == hit.key).unwrap_or(fresh);
        let [low, high] = hit.powers;
        let candidate = Candidate {
            key: hit.key,
            hits: former.hits + 1,
            strongest: [former.strongest[0].max(low), former.strongest[1].max(high)],
            weakest: [former.weakest[0].min(low), former.weakest[1].min(high)],
        };
        let steady = (0..2)
            .all(|tone| candidate.strongest[tone] <= MAX_UNSTEADINESS * candidate.weakest[tone]);
        self.candidate = Some(if steady { candidate } else { Candidate { hits: 1, ..fresh } });
        let begins = steady && candidate.hits == HITS_TO_BEGIN;
        begins.then_some(Pressed {
            key: hit.key,
            hops: HITS_TO_BEGIN,
            misses: 0,
            power: low + high,
        })
    }
}

/// Mean square under the window; in eight sums, which the compiler can keep in vectors.
fn weighted_power(samples: &[f32], window: &[f32; WINDOW]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (samples, weights) in samples.as_chunks::<8>().0.iter().zip(window.as_chunks::<8>().0) {
        for lane in 0..8 {
            sums[lane] += samples[lane] * samples[lane] * weights[lane];
        }
    }
    sums.iter().sum()
}

fn db(ratio: f32) -> f32 {
    10f32.powf(ratio / 10.0)
}

/// Amplitude the Hann window shows of a tone so many bins beside, of one that is right on.
fn window_response(bins: f32) -> f32 {
    let bins = bins.abs().min(0.99);
    if bins < 1e-3 {
        return 1.0;
    }
    let phase = std::f32::consts::PI * bins;
    phase.sin() / phase / (1.0 - bins * bins)
}

#[cfg(test)]
mod tests;
