//! Which of some known sounds is heard, and since when.
//!
//! Frames are given fingerprints of a few bits, as J. Haitsma and T. Kalker do it in "A Highly
//! Robust Audio Fingerprinting System" (ISMIR 2002): each bit says whether the power of a band, or
//! how two neighbours are to each other, has grown. No level matters to them, and what a codec or
//! the loss of packets does to the audio turns few. A known sound is learnt once, at every 5 ms of
//! it; a print that is heard leads by an index to the places that could be meant, and these are
//! compared over the last 1.28 s. Bits of the sound that are near the border are left out.
//!
//! A sound is told when 1.28 s of it were heard, or its end; while another one of those
//! listened for fits as well, as when both begin with the same words, nothing is told.

use std::sync::Arc;

use crate::g711::FRAME_MS;

mod bands;
mod print;
mod reference;

use crate::codec::Pcm;
use bands::{BLOCK, Bands, Bank};
pub use reference::Reference;
use reference::{Place, Tally};

/// Blocks of 5 ms in a frame.
const BLOCKS_A_FRAME: usize = crate::g711::FRAME_SAMPLES / BLOCK;

/// A frame is compared with that so many frames before.
const LOOK_BACK: usize = 2;

/// Frames that are compared together, 320 ms, and how many times so many make a window. Each
/// segment has to fit: words that two sounds have in common are seldom as long as a window.
const SEGMENT: usize = 16;
const SEGMENTS: usize = 4;
const WINDOW: usize = SEGMENT * SEGMENTS;

/// Chance turns half of the bits, with a deviation of half the root of their number were they
/// independent. A window that is taken for the sound is so many of these from it, and half a window
/// that may be on the way to it so many.
const SURE_DEVIATIONS: f32 = 14.5;
const LIKELY_DEVIATIONS: f32 = 5.0;

/// A sound that fits so well, as a share of the best, may be it as well.
const RIVAL: f32 = 0.65;

/// The share of wrong bits in a segment that still fits.
const MAX_WRONG: f32 = 0.3;

/// A segment with fewer firm bits (a pause) says nothing.
const MIN_FIRM: u32 = 40;

/// A sound that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Which of those listened for.
    pub sound: usize,
    /// When it began, in ms of what was heard; below zero when that was before.
    pub began_ms: i64,
    /// What was heard until now.
    pub at_ms: i64,
}

/// Listens for known sounds, until one is recognised.
#[derive(Debug)]
pub struct Recognition {
    sounds: Vec<Arc<Reference>>,
    /// What fits at present, by sound.
    fits: Vec<Option<Fit>>,
    /// Prints, the newest last.
    heard: [u16; WINDOW],
    /// The newest last.
    bands: [Bands; LOOK_BACK + 1],
    heard_ms: i64,
    silence: Bands,
}

#[derive(Clone, Copy, Debug)]
struct Fit {
    place: Place,
    /// How far from chance the newest two segments are.
    deviations: f32,
    sure: bool,
}

impl Recognition {
    /// Listens for these from now on.
    #[must_use]
    pub fn new(sounds: Vec<Arc<Reference>>) -> Self {
        let silence = measure(&[0; crate::codec::PCM_SAMPLES]);
        Self {
            fits: vec![None; sounds.len()],
            sounds,
            heard: [0; WINDOW],
            bands: [silence; LOOK_BACK + 1],
            heard_ms: 0,
            silence,
        }
    }

    /// Takes what was heard in 20 ms; nothing is silence.
    pub fn hear(&mut self, pcm: Option<&Pcm>) -> Option<Recognised> {
        self.heard_ms += i64::from(FRAME_MS);
        self.bands.rotate_left(1);
        self.bands[LOOK_BACK] = pcm.map_or(self.silence, measure);
        self.heard.copy_within(1.., 0);
        let print = print::print(&self.bands[LOOK_BACK], &self.bands[0]);
        self.heard[WINDOW - 1] = print;
        for index in 0..self.sounds.len() {
            self.fits[index] = self.fit(&self.sounds[index], self.fits[index], print);
        }
        self.decide()
    }

    /// Tells the sound that fits best when that is sure and no other one fits nearly as well. Those
    /// that have fitted until all of them are over are the same to us.
    fn decide(&self) -> Option<Recognised> {
        let fits = self.fits.iter().enumerate().filter_map(|(index, fit)| Some((index, (*fit)?)));
        let better = |(_, a): &(_, Fit), (_, b): &(_, Fit)| a.deviations.total_cmp(&b.deviations);
        // In reverse, since of equal ones the last is taken.
        let (sound, best) = fits.clone().rev().max_by(better).filter(|(_, fit)| fit.sure)?;
        let is_over = |index: usize, fit: Fit| self.sounds[index].is_over(fit.place);
        let undecided = fits.filter(|(index, _)| *index != sound).any(|(index, fit)| {
            let rivals = fit.deviations >= RIVAL * best.deviations;
            rivals && !(is_over(sound, best) && is_over(index, fit))
        });
        let began_ms = self.heard_ms - Reference::at_ms(best.place);
        (!undecided).then_some(Recognised { sound, began_ms, at_ms: self.heard_ms })
    }

    /// The best fit: the one there was, a frame later, or another one.
    fn fit(&self, sound: &Reference, former: Option<Fit>, print: u16) -> Option<Fit> {
        let next = former.and_then(|former| {
            let place = sound.next(former.place)?;
            let fit = self.judge(sound, place)?;
            Some(Fit { sure: fit.sure || former.sure, ..fit })
        });
        if next.is_some_and(|fit| fit.sure) {
            return next;
        }
        let found = sound.places(print).filter_map(|place| self.judge(sound, place));
        next.into_iter().chain(found).max_by(|a, b| a.deviations.total_cmp(&b.deviations))
    }

    /// Whether what was heard fits at a place, and whether that is sure.
    fn judge(&self, sound: &Reference, place: Place) -> Option<Fit> {
        let newest = sound.compare(place, &self.heard, 0);
        if !fits(newest) {
            return None;
        }
        let middle = sound.compare(place, &self.heard, 1);
        let two = newest.and(middle);
        let deviations = two.deviations();
        if deviations < LIKELY_DEVIATIONS {
            return None;
        }
        let older = [2, 3].map(|age| sound.compare(place, &self.heard, age));
        let all = older.into_iter().fold(two, Tally::and);
        let sure = fits(middle)
            && older.into_iter().all(fits)
            && (sound.has_gone_on(place) || sound.is_over(place))
            && all.firm >= sound.enough()
            && all.deviations() >= sound.sure(SURE_DEVIATIONS);
        Some(Fit { place, deviations, sure })
    }
}

fn measure(pcm: &Pcm) -> Bands {
    let bank = Bank::shared();
    let blocks: [Bands; BLOCKS_A_FRAME] = {
        let (blocks, _) = pcm.as_chunks::<BLOCK>();
        std::array::from_fn(|index| bank.measure(&blocks[index]))
    };
    bands::sum(&blocks)
}

fn fits(tally: Tally) -> bool {
    tally.firm < MIN_FIRM || tally.wrong as f32 <= MAX_WRONG * tally.firm as f32
}

#[cfg(test)]
mod tests;
