//! A known sound as what is looked for: its prints at every 5 ms, and where each kind of print is.

use super::bands::{BLOCK, Bands, Bank, sum};
use super::print::{BITS, Firm, firm_print};
use super::{BLOCKS_A_FRAME, LOOK_BACK, SEGMENT, WINDOW};

/// What is kept of a sound: the prints of a minute are 100 KiB, its index as much again.
const MAX_BLOCKS: usize = 30 * 200;

/// The upper bits of a print are the key by which places are found: how bands are to each other
/// tells more than how each of them grows.
const KEYS: usize = 1 << KEY_BITS;
const KEY_BITS: usize = 8;

/// A place is found by every key that differs in bits which are not firm, as long as there are not
/// more of them.
const MAX_SOFT: u32 = 2;

/// A place is worth looking at when the segment that ends there has so many firm bits.
const MIN_FIRM: u32 = 60;

/// A sound with fewer firm bits could be taken for another one.
const MIN_FIRM_IN_ALL: u32 = 120;

/// A window of speech that is listened for has some 650. With less of it (as at the end of a sound,
/// with silence after it) only a sound is known that has no more.
const ENOUGH_FIRM: u32 = 500;

/// A frame of a known sound: which of its blocks it begins with, and after how many frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) phase: usize,
    pub(super) frame: usize,
}

/// Firm bits that were compared, and those of them that were heard otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) firm: u32,
    pub(super) wrong: u32,
}

impl Tally {
    pub(super) fn and(self, other: Self) -> Self {
        Self { firm: self.firm + other.firm, wrong: self.wrong + other.wrong }
    }

    /// How far from chance it is, in its deviations.
    pub(super) fn deviations(self) -> f32 {
        let firm = self.firm.max(1) as f32;
        (firm - 2.0 * self.wrong as f32) / firm.sqrt()
    }
}

/// What is known of one sound; shared by all who listen for it.
#[derive(Debug)]
pub struct Reference {
    /// By phase: what is heard of it in frames that begin 0, 5, 10 or 15 ms after its beginning,
    /// with a window of nothing on either side.
    prints: [Vec<u16>; BLOCKS_A_FRAME],
    firm: [Vec<u16>; BLOCKS_A_FRAME],
    /// By key: where its places begin in `places`, and at last the number of all.
    starts: Box<[u32]>,
    places: Box<[u32]>,
    /// The first and the last frame in which something is firm.
    first: usize,
    last: usize,
    enough: u32,
}

impl Reference {
    /// Learns a sound of 8 kHz; None when there is too little in it to know it by, as in a single
    /// steady tone or in silence.
    #[must_use]
    pub fn of(samples: &[i16]) -> Option<Self> {
        let frames = frames(samples);
        let mut prints: [Vec<u16>; BLOCKS_A_FRAME] = Default::default();
        let mut firm: [Vec<u16>; BLOCKS_A_FRAME] = Default::default();
        for phase in 0..BLOCKS_A_FRAME {
            let of_phase = frames.iter().skip(phase).step_by(BLOCKS_A_FRAME);
            let nothing = [Firm::default(); WINDOW];
            let all = nothing.iter().chain(of_phase).chain(&nothing);
            (prints[phase], firm[phase]) = all.map(|frame| (frame.print, frame.firm)).unzip();
        }
        let bits: u32 = firm[0].iter().map(|firm| firm.count_ones()).sum();
        if bits < MIN_FIRM_IN_ALL {
            return None;
        }
        let first = firm[0].iter().position(|firm| *firm != 0)?;
        let last = firm[0].iter().rposition(|firm| *firm != 0)?;
        let enough = ENOUGH_FIRM.min(bits * 9 / 10);
        let mut reference = Self {
            prints,
            firm,
            starts: Box::default(),
            places: Box::default(),
            first,
            last,
            enough,
        };
        reference.index();
        Some(reference)
    }

    /// How many ms into the sound the frame at a place ends.
    pub(super) fn at_ms(place: Place) -> i64 {
        let frames = place.frame as i64 + 1 - WINDOW as i64;
        frames * 20 + place.phase as i64 * 5
    }

    /// Room that it takes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let prints: usize = self.prints.iter().map(|prints| 4 * prints.len()).sum();
        prints + 4 * (self.starts.len() + self.places.len())
    }

    /// Where a frame with this print could be.
    pub(super) fn places(&self, print: u16) -> impl Iterator<Item = Place> {
        let key = usize::from(print) >> (BITS - KEY_BITS);
        let places = &self.places[self.starts[key] as usize..self.starts[key + 1] as usize];
        places.iter().map(|place| {
            let place = *place as usize;
            Place { phase: place % BLOCKS_A_FRAME, frame: place / BLOCKS_A_FRAME }
        })
    }

    /// The place one frame later, unless the sound has been over for a window.
    pub(super) fn next(&self, place: Place) -> Option<Place> {
        let frame = place.frame + 1;
        (frame < self.prints[place.phase].len()).then_some(Place { frame, ..place })
    }

    /// Compares the segment that ended `age` segments before a place.
    pub(super) fn compare(&self, place: Place, heard: &[u16; WINDOW], age: usize) -> Tally {
        let end = place.frame + 1 - age * SEGMENT;
        let prints = &self.prints[place.phase][end - SEGMENT..end];
        let firm = &self.firm[place.phase][end - SEGMENT..end];
        let end = WINDOW - age * SEGMENT;
        let heard = &heard[end - SEGMENT..end];
        let mut tally = Tally::default();
        for ((print, firm), heard) in prints.iter().zip(firm).zip(heard) {
            tally.firm += firm.count_ones();
            tally.wrong += ((print ^ heard) & firm).count_ones();
        }
        tally
    }

    /// Whether the sound has gone on for a window when it has come to a place.
    pub(super) fn has_gone_on(&self, place: Place) -> bool {
        place.frame + 1 >= self.first + WINDOW
    }

    /// How far from chance a window must be, when one of speech must be as far as `speech`. In a
    /// short sound it cannot be.
    pub(super) fn sure(&self, speech: f32) -> f32 {
        speech * (self.enough as f32 / ENOUGH_FIRM as f32).sqrt()
    }

    /// Firm bits of a window that is enough to know the sound by.
    pub(super) fn enough(&self) -> u32 {
        self.enough
    }

    /// Whether nothing is to come any more.
    pub(super) fn is_over(&self, place: Place) -> bool {
        place.frame >= self.last
    }

    fn index(&mut self) {
        let mut by_key: Vec<Vec<u32>> = vec![Vec::new(); KEYS];
        for (phase, (prints, firm)) in self.prints.iter().zip(&self.firm).enumerate() {
            for frame in WINDOW..prints.len() {
                let segment = &firm[frame + 1 - SEGMENT..=frame];
                let bits: u32 = segment.iter().map(|firm| firm.count_ones()).sum();
                let key = usize::from(prints[frame]) >> (BITS - KEY_BITS);
                let soft = !usize::from(firm[frame]) >> (BITS - KEY_BITS) & (KEYS - 1);
                if bits < MIN_FIRM || soft.count_ones() > MAX_SOFT {
                    continue;
                }
                let place = (frame * BLOCKS_A_FRAME + phase) as u32;
                // All subsets of the soft bits.
                let mut turned = soft;
                loop {
                    by_key[key ^ turned].push(place);
                    if turned == 0 {
                        break;
                    }
                    turned = (turned - 1) & soft;
                }
            }
        }
        let mut start = 0;
        let ends = by_key.iter().map(|places| {
            start += places.len() as u32;
            start
        });
        self.starts = std::iter::once(0).chain(ends).collect();
        self.places = by_key.concat().into();
    }
}

/// The prints of the frames that begin with each block.
fn frames(samples: &[i16]) -> Vec<Firm> {
    let bank = Bank::shared();
    let (whole, rest) = samples.as_chunks::<BLOCK>();
    let mut tail = [0; BLOCK];
    tail[..rest.len()].copy_from_slice(rest);
    let silence = bank.measure(&[0; BLOCK]);
    let before = LOOK_BACK * BLOCKS_A_FRAME;
    let mut blocks = vec![silence; before];
    blocks.extend(whole.iter().take(MAX_BLOCKS).map(|block| bank.measure(block)));
    blocks.push(bank.measure(&tail));
    let sums: Vec<Bands> = blocks.windows(BLOCKS_A_FRAME).map(sum).collect();
    let pairs = sums[before.min(sums.len())..].iter().zip(&sums);
    pairs.map(|(now, before)| firm_print(now, before)).collect()
}
