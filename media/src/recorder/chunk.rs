//! Frames of a recording as they were heard. They become samples of the file only when they are
//! written, which is not the business of the thread that moves packets.

use crate::codec::{PCM_SAMPLES, Pcm};
use crate::g711::{FRAME_SAMPLES, Law};
use crate::wav::{Form, Layout};

/// What one side has said in 20 ms.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// Nothing, or nothing that may be kept.
    Silence,
    /// Octets of G.711.
    Law(Law, &'a [u8; FRAME_SAMPLES]),
    /// Samples.
    Linear(&'a Pcm),
}

/// Octets of 20 ms of samples.
const LINEAR_LEN: usize = 2 * PCM_SAMPLES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silence,
    Law(Law),
    Linear,
}

/// Sides of frames, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    kinds: Vec<Kind>,
    octets: Vec<u8>,
}

impl Chunk {
    /// Room for so many sides of G.711; linear ones make it grow.
    #[must_use]
    pub fn with_room(sides: usize) -> Self {
        Self { kinds: Vec::with_capacity(sides), octets: Vec::with_capacity(sides * FRAME_SAMPLES) }
    }

    /// Sides put in.
    #[must_use]
    pub fn sides(&self) -> usize {
        self.kinds.len()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.kinds.clear();
        self.octets.clear();
    }

    /// Adds 20 ms of a side; the sides of a frame follow each other.
    pub fn push(&mut self, side: Side<'_>) {
        self.kinds.push(match side {
            Side::Silence => Kind::Silence,
            Side::Law(law, octets) => {
                self.octets.extend_from_slice(octets);
                Kind::Law(law)
            }
            Side::Linear(pcm) => {
                self.octets.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
                Kind::Linear
            }
        });
    }

    /// Appends its frames as the layout has them.
    pub fn render(&self, layout: Layout, out: &mut Vec<u8>) {
        let mut rest = Sides { kinds: &self.kinds, octets: &self.octets };
        let mut at = out.len();
        out.resize(at + self.kinds.len() / usize::from(layout.channels) * layout.frame_len(), 0);
        while !rest.kinds.is_empty() && at < out.len() {
            let frame = &mut out[at..at + layout.frame_len()];
            at += layout.frame_len();
            match (layout.form, layout.channels) {
                (Form::Pcm16, 1) => {
                    let (places, _) = frame.as_chunks_mut::<2>();
                    for (place, sample) in places.iter_mut().zip(rest.next_pcm()) {
                        *place = sample.to_le_bytes();
                    }
                }
                (Form::Pcm16, _) => {
                    let (left, right) = (rest.next_pcm(), rest.next_pcm());
                    let (places, _) = frame.as_chunks_mut::<4>();
                    for (place, (left, right)) in places.iter_mut().zip(left.iter().zip(&right)) {
                        let ([a, b], [c, d]) = (left.to_le_bytes(), right.to_le_bytes());
                        *place = [a, b, c, d];
                    }
                }
                (Form::ALaw, 1) => frame.copy_from_slice(&rest.next_a_law()),
                (Form::ALaw, _) => {
                    let (left, right) = (rest.next_a_law(), rest.next_a_law());
                    let (places, _) = frame.as_chunks_mut::<2>();
                    for (place, (left, right)) in places.iter_mut().zip(left.iter().zip(&right)) {
                        *place = [*left, *right];
                    }
                }
            }
        }
    }
}

/// What is left of a chunk.
struct Sides<'a> {
    kinds: &'a [Kind],
    octets: &'a [u8],
}

impl Sides<'_> {
    fn next_kind(&mut self) -> Kind {
        let Some((kind, rest)) = self.kinds.split_first() else { return Kind::Silence };
        self.kinds = rest;
        *kind
    }

    fn take<const LEN: usize>(&mut self) -> [u8; LEN] {
        let Some((taken, rest)) = self.octets.split_first_chunk() else { return [0; LEN] };
        self.octets = rest;
        *taken
    }

    fn next_pcm(&mut self) -> Pcm {
        match self.next_kind() {
            Kind::Silence => [0; PCM_SAMPLES],
            Kind::Law(law) => {
                let table = law.decoder();
                self.take::<FRAME_SAMPLES>().map(|octet| table[usize::from(octet)])
            }
            Kind::Linear => self.take_linear(),
        }
    }

    fn next_a_law(&mut self) -> [u8; FRAME_SAMPLES] {
        match self.next_kind() {
            Kind::Silence => [Law::A.silence(); FRAME_SAMPLES],
            Kind::Law(law) => {
                let mut octets = self.take();
                law.transcode(Law::A, &mut octets);
                octets
            }
            Kind::Linear => {
                let mut octets = [0; FRAME_SAMPLES];
                Law::A.encode_all(&self.take_linear(), &mut octets);
                octets
            }
        }
    }

    fn take_linear(&mut self) -> Pcm {
        let octets = self.take::<LINEAR_LEN>();
        let mut pcm = [0; PCM_SAMPLES];
        for (sample, octets) in pcm.iter_mut().zip(octets.as_chunks::<2>().0) {
            *sample = i16::from_le_bytes(*octets);
        }
        pcm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(form: Form, channels: u16) -> Layout {
        Layout { form, channels }
    }

    fn rendered(sides: &[Side<'_>], layout: Layout) -> Vec<u8> {
        let mut chunk = Chunk::with_room(sides.len());
        for side in sides {
            chunk.push(*side);
        }
        let mut out = Vec::new();
        chunk.render(layout, &mut out);
        out
    }

    fn samples(octets: &[u8]) -> Vec<i16> {
        octets.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
    }

    #[test]
    fn sides_of_every_kind_become_samples_in_their_order() {
        let octets: [u8; FRAME_SAMPLES] = std::array::from_fn(|index| index as u8);
        let pcm: Pcm = std::array::from_fn(|index| index as i16 * 100 - 8000);
        for law in [Law::A, Law::Mu] {
            let sides = [
                Side::Law(law, &octets),
                Side::Linear(&pcm),
                Side::Silence,
                Side::Law(law, &octets),
            ];
            let out = samples(&rendered(&sides, layout(Form::Pcm16, 2)));
            assert_eq!(out.len(), 4 * PCM_SAMPLES);
            for index in 0..PCM_SAMPLES {
                let said = law.decode(octets[index]);
                assert_eq!(out[2 * index..][..2], [said, pcm[index]]);
                assert_eq!(out[2 * (PCM_SAMPLES + index)..][..2], [0, said]);
            }
            let mono = samples(&rendered(&sides, layout(Form::Pcm16, 1)));
            assert_eq!(mono[PCM_SAMPLES..2 * PCM_SAMPLES], pcm);
            assert_eq!(mono[3 * PCM_SAMPLES], law.decode(octets[0]));
        }
    }

    #[test]
    fn a_law_is_written_as_if_it_were_decoded_and_encoded_again() {
        let octets: [u8; FRAME_SAMPLES] = std::array::from_fn(|index| (index * 13) as u8);
        for law in [Law::A, Law::Mu] {
            let pcm: Pcm = octets.map(|octet| law.decode(octet));
            let known = [Side::Law(law, &octets), Side::Silence];
            let decoded = [Side::Linear(&pcm), Side::Linear(&[0; PCM_SAMPLES])];
            for channels in [1, 2] {
                let layout = layout(Form::ALaw, channels);
                assert_eq!(rendered(&known, layout), rendered(&decoded, layout));
            }
        }
    }
}
