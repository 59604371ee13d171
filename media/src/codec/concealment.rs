//! Concealment of lost audio by waveform substitution, in the manner of G.711 appendix I: what is
//! missing is filled with the last pitch periods heard, which fade out within 60 ms.
//!
//! Unlike the appendix it delays nothing: instead of fading over into the substitute before the
//! loss it takes the step between the last sample and the substitute away, over a quarter period.

/// Pitch periods searched: 200 to 66 Hz. Higher voices are found at a multiple of their period.
const MIN_PERIOD: usize = 40;
const MAX_PERIOD: usize = 120;

/// Audio compared to find the period, 20 ms.
const COMPARED: usize = 160;

/// Audio kept: three of the longest periods and a quarter to blend them, 48.75 ms.
const HISTORY: usize = 3 * MAX_PERIOD + MAX_PERIOD / 4;

/// Samples in 10 ms: after each 10 ms one more period is repeated, lest the voice buzz.
const STEP: usize = 80;

/// The substitute is silent from here on, 60 ms.
const SILENT_FROM: usize = 6 * STEP;

/// The substitute fades over into the first audio after a loss for a quarter period and 4 ms for
/// each 10 ms lost, but no longer than 10 ms.
const BLEND_PER_STEP: usize = 32;
const MAX_BLEND: usize = STEP;

/// The recent past of one stream at 8 kHz, and the substitute while it is lost.
#[derive(Debug)]
pub struct Concealer {
    history: [i16; HISTORY],
    /// The past as it was when the loss began.
    template: [i16; HISTORY],
    period: usize,
    /// Samples lost since audio was last received.
    lost: usize,
}

impl Default for Concealer {
    fn default() -> Self {
        Self { history: [0; HISTORY], template: [0; HISTORY], period: MIN_PERIOD, lost: 0 }
    }
}

impl Concealer {
    /// Notes received audio; after a loss its beginning is blended with the substitute.
    pub fn receive(&mut self, pcm: &mut [i16]) {
        if self.lost > 0 {
            let blend = (self.period / 4 + BLEND_PER_STEP * (self.lost / STEP)).min(MAX_BLEND);
            for (index, sample) in pcm.iter_mut().take(blend).enumerate() {
                let weight = (index + 1) as f32 / (blend + 1) as f32;
                let substitute = self.substitute(self.lost + index);
                *sample = (substitute + weight * (f32::from(*sample) - substitute)) as i16;
            }
            self.lost = 0;
        }
        self.remember(pcm);
    }

    /// Fills in what is lost; false once the substitute has faded out.
    pub fn conceal(&mut self, out: &mut [i16]) -> bool {
        if self.lost == 0 {
            self.template = self.history;
            self.period = period_of(&self.template);
        }
        for sample in out.iter_mut() {
            *sample = self.substitute(self.lost) as i16;
            self.lost += 1;
        }
        self.remember(out);
        self.lost - out.len() < SILENT_FROM
    }

    /// Whether the last it knows of the stream is a loss.
    pub fn is_covering(&self) -> bool {
        self.lost > 0
    }

    fn remember(&mut self, pcm: &[i16]) {
        let newest = &pcm[pcm.len().saturating_sub(HISTORY)..];
        self.history.copy_within(newest.len().., 0);
        self.history[HISTORY - newest.len()..].copy_from_slice(newest);
    }

    /// The substitute `position` samples after the last one received.
    fn substitute(&self, position: usize) -> f32 {
        if position >= SILENT_FROM {
            return 0.0;
        }
        let quarter = self.period / 4;
        let steps = (position / STEP).min(2);
        let mut value = self.repeated(steps, position);
        // Right after one more period is taken in, the former repetition fades out.
        let since = position - steps * STEP;
        if steps > 0 && since < quarter {
            let former = self.repeated(steps - 1, position);
            value = former + (value - former) * (since + 1) as f32 / (quarter + 1) as f32;
        }
        if position < quarter {
            let last = HISTORY - 1;
            let step =
                f32::from(self.template[last]) - f32::from(self.template[last - self.period]);
            value += step * (quarter - position) as f32 / (quarter + 1) as f32;
        }
        let faded = position.saturating_sub(STEP) as f32 / (SILENT_FROM - STEP) as f32;
        (value * (1.0 - faded)).clamp(f32::from(i16::MIN), f32::from(i16::MAX))
    }

    /// The last `steps + 1` periods repeated, in phase with fewer of them. The last quarter period
    /// of the cycle is blended into what came before the cycle, so that it closes without a step.
    fn repeated(&self, steps: usize, position: usize) -> f32 {
        let cycle = (steps + 1) * self.period;
        let quarter = self.period / 4;
        let index = position % cycle;
        let at = HISTORY - cycle + index;
        let value = f32::from(self.template[at]);
        let Some(into) = (index + quarter).checked_sub(cycle) else { return value };
        let before = f32::from(self.template[at - cycle]);
        value + (before - value) * (into + 1) as f32 / (quarter + 1) as f32
    }
}

/// The lag at which the last 20 ms are most like what came before them.
fn period_of(history: &[i16; HISTORY]) -> usize {
    let recent = &history[HISTORY - COMPARED..];
    let mut best = (MIN_PERIOD, f32::MIN);
    for lag in MIN_PERIOD..=MAX_PERIOD {
        let earlier = &history[HISTORY - COMPARED - lag..HISTORY - lag];
        let (mut product, mut energy) = (0.0, 1.0);
        for (a, b) in recent.iter().zip(earlier) {
            product += f32::from(*a) * f32::from(*b);
            energy += f32::from(*b) * f32::from(*b);
        }
        let likeness = product / f32::sqrt(energy);
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    best.0
}

#[cfg(test)]
mod tests;
