//! The pitch delay: clauses A.3.4 (open loop), 3.7 (closed loop) and 4.1.3 (its codes).

use super::excitation::{Delay, Excitation};
use super::filter::{convolve, dot};
use super::{FRAME, MAX_DELAY, MIN_DELAY, Subframe};

/// Samples of weighted speech that the open loop looks at.
pub const OPEN_LOOP: usize = MAX_DELAY + FRAME;

/// Ranges of the open loop; in the longest only even delays are looked at first.
const RANGES: [(usize, usize); 3] = [(80, 143), (40, 79), (20, 39)];

/// Longest delay of the first subframe that has thirds.
const MAX_WITH_THIRDS: usize = 84;

/// Finds the delay at which the frame at the end of the weighted speech is most like its past.
pub fn open_loop(weighted: &[f32; OPEN_LOOP]) -> usize {
    let correlate = |delay: usize| -> f32 {
        let (present, past) = (&weighted[MAX_DELAY..], &weighted[MAX_DELAY - delay..]);
        present.iter().zip(past).step_by(2).map(|(a, b)| a * b).sum()
    };
    let found = RANGES.map(|(shortest, longest)| {
        let step = if longest == MAX_DELAY { 2 } else { 1 };
        let mut best = (shortest, f32::MIN);
        let mut consider = |delay: usize| {
            let correlation = correlate(delay);
            if correlation > best.1 {
                best = (delay, correlation);
            }
        };
        (shortest..=longest).step_by(step).for_each(&mut consider);
        if step == 2 {
            let coarse = best.0;
            let mut consider = |delay: usize| {
                let correlation = correlate(delay);
                if correlation > best.1 {
                    best = (delay, correlation);
                }
            };
            consider(coarse + 1);
            if coarse > shortest {
                consider(coarse - 1);
            }
        }
        let past = &weighted[MAX_DELAY - best.0..][..FRAME];
        let energy: f32 = past.iter().step_by(2).map(|sample| sample * sample).sum();
        (best.0, best.1 / energy.max(1.0).sqrt())
    });
    shortest_likely(found)
}

/// A shorter delay is favoured where a longer one is about its double or triple.
fn shortest_likely([long, mut middle, mut short]: [(usize, f32); 3]) -> usize {
    let near = |a: usize, b: usize, margin: usize| a.abs_diff(b) < margin;
    if near(2 * middle.0, long.0, 5) || near(3 * middle.0, long.0, 7) {
        middle.1 += 0.25 * long.1.max(0.0);
    }
    if near(2 * short.0, middle.0, 5) || near(3 * short.0, middle.0, 7) {
        short.1 += 0.2 * middle.1.max(0.0);
    }
    let best = if middle.1 >= long.1 { middle } else { long };
    if short.1 >= best.1 { short.0 } else { best.0 }
}

/// Delays that the closed loop looks at around the open loop's, or around the first subframe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    shortest: usize,
    longest: usize,
}

impl Range {
    /// Around the delay of the open loop.
    pub fn of_first(open_loop: usize) -> Self {
        Self::around(open_loop.saturating_sub(3), 6)
    }

    /// Around the first subframe's.
    pub fn of_second(first: Delay) -> Self {
        Self::around(first.whole.saturating_sub(5), 9)
    }

    fn around(shortest: usize, width: usize) -> Self {
        let shortest = shortest.clamp(MIN_DELAY, MAX_DELAY - width);
        Self { shortest, longest: shortest + width }
    }
}

/// Finds the delay whose contribution, filtered by `response`, is most like `target`. Returns it
/// with the contribution before and after the filter.
pub fn closed_loop(
    excitation: &mut Excitation,
    start: usize,
    range: Range,
    always_thirds: bool,
    target: &Subframe,
    response: &Subframe,
) -> (Delay, Subframe, Subframe) {
    let mut best = (f32::MIN, Delay::whole(range.shortest), [0.0; 40], [0.0; 40]);
    let mut consider = |delay: Delay, best: &mut (f32, Delay, Subframe, Subframe)| {
        let vector = excitation.repeat(start, delay);
        let filtered = convolve(&vector, response);
        let likeness = dot(target, &filtered) / dot(&filtered, &filtered).max(1e-3).sqrt();
        if likeness > best.0 {
            *best = (likeness, delay, vector, filtered);
        }
    };
    for whole in range.shortest..=range.longest {
        consider(Delay::whole(whole), &mut best);
    }
    let whole = best.1.whole;
    if always_thirds || whole <= MAX_WITH_THIRDS {
        for thirds in [-1, 1] {
            consider(Delay { whole, thirds }, &mut best);
        }
    }
    (best.1, best.2, best.3)
}

/// The code of the first subframe's delay.
pub fn encode_first(delay: Delay) -> u8 {
    if delay.whole <= MAX_WITH_THIRDS + 1 {
        (delay.in_thirds() - 58) as u8
    } else {
        (delay.whole + 112) as u8
    }
}

/// The delay of the first subframe.
pub fn decode_first(code: u8) -> Delay {
    let code = usize::from(code);
    if code >= 197 {
        return Delay::whole(code - 112);
    }
    Delay::of_thirds(code + 58)
}

/// The code of the second subframe's delay.
pub fn encode_second(delay: Delay, range: Range) -> u8 {
    (delay.in_thirds() + 2 - 3 * range.shortest) as u8
}

/// The delay of the second subframe.
pub fn decode_second(code: u8, range: Range) -> Delay {
    Delay::of_thirds(usize::from(code) + 3 * range.shortest - 2)
}

/// Guards against a contribution that grows without end after a lost frame, as it would with long
/// pure tones: an estimate of how much past errors can have grown.
#[derive(Debug)]
pub struct Taming {
    errors: [f32; 4],
}

impl Default for Taming {
    fn default() -> Self {
        Self { errors: [1.0; 4] }
    }
}

/// Growth above which the pitch gain is held back, and to what.
const MAX_GROWTH: f32 = 60_000.0;
const TAMED_GAIN: f32 = 0.95;
const MAX_GAIN: f32 = 1.2;

impl Taming {
    /// The largest gain allowed for a delay.
    pub fn max_gain(&self, delay: Delay) -> f32 {
        let whole = delay.whole + usize::from(delay.thirds > 0);
        let (first, last) = (zone(whole.saturating_sub(50)), zone(whole + 8));
        let worst = self.errors[first..=last].iter().copied().fold(0.0, f32::max);
        if worst > MAX_GROWTH { TAMED_GAIN } else { MAX_GAIN }
    }

    /// Notes the gain of a subframe.
    pub fn note(&mut self, gain: f32, delay: Delay) {
        let grow = |error: f32| 1.0 + gain * error;
        let worst = match delay.whole.checked_sub(40) {
            None => grow(self.errors[0]).max(grow(grow(self.errors[0]))),
            Some(least) => {
                let zones = &self.errors[zone(least)..=zone(delay.whole - 1)];
                zones.iter().copied().map(grow).fold(0.0, f32::max)
            }
        };
        self.errors.copy_within(..3, 1);
        self.errors[0] = worst;
    }
}

/// The subframe of the past in which a delay ends.
fn zone(samples: usize) -> usize {
    (samples / 40).min(3)
}
