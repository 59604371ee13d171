//! 20 ms of audio inside the engine, in the forms in which it is known.

use crate::codec::{Codec, Encoded, MAX_FRAME_LEN, PCM_SAMPLES, Pcm};

/// Octets that a processor fetches at once.
pub const CACHE_LINE: usize = 64;

/// What was said or is to be heard in 20 ms: nothing, as on the wire, linear, or both.
///
/// A place that is used again for every frame: octets and samples beside the form are what an
/// earlier frame has left.
#[derive(Clone, Debug)]
pub struct Sound {
    is_encoded: bool,
    is_linear: bool,
    encoded: Encoded,
    pcm: Pcm,
}

impl Default for Sound {
    fn default() -> Self {
        Self {
            is_encoded: false,
            is_linear: false,
            encoded: Encoded::empty(Codec::Pcma),
            pcm: [0; PCM_SAMPLES],
        }
    }
}

impl Sound {
    /// Reads a little of what it holds, if it is G.711 or shorter.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        let octets = self.encoded.payload().iter().step_by(CACHE_LINE).take(3);
        u64::from(self.is_linear) + octets.map(|octet| u64::from(*octet)).sum::<u64>()
    }

    /// Makes it nothing.
    pub fn clear(&mut self) {
        self.is_encoded = false;
        self.is_linear = false;
    }

    /// Whether there is nothing: not even silence.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.is_encoded && !self.is_linear
    }

    /// The frame as on the wire, when it is known so.
    #[must_use]
    pub fn encoded(&self) -> Option<&Encoded> {
        self.is_encoded.then_some(&self.encoded)
    }

    /// The samples, when they are known.
    #[must_use]
    pub fn pcm(&self) -> Option<&Pcm> {
        self.is_linear.then_some(&self.pcm)
    }

    /// Makes it what a payload holds.
    pub fn set_encoded(&mut self, codec: Codec, payload: &[u8]) {
        self.is_linear = false;
        self.is_encoded = true;
        self.encoded.set(codec, payload);
    }

    /// Makes it a payload of `len` octets, which the caller writes or has written to its room.
    pub fn start_encoded(&mut self, codec: Codec, len: usize) -> &mut [u8] {
        self.is_linear = false;
        self.is_encoded = true;
        self.encoded.start(codec, len)
    }

    /// Room for octets of any length, before it is known what they make of it.
    pub fn room(&mut self) -> &mut [u8; MAX_FRAME_LEN] {
        self.encoded.room()
    }

    /// Makes it linear; the caller writes the samples.
    pub fn start_pcm(&mut self) -> &mut Pcm {
        self.is_encoded = false;
        self.is_linear = true;
        &mut self.pcm
    }

    /// Gives what is on the wire its samples too, by `decode`, unless they are known already.
    pub fn decoded(&mut self, decode: impl FnOnce(&Encoded, &mut Pcm)) -> Option<&Pcm> {
        if self.is_encoded && !self.is_linear {
            decode(&self.encoded, &mut self.pcm);
            self.is_linear = true;
        }
        self.pcm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_decoded_once() {
        let mut sound = Sound::default();
        assert!(sound.is_nothing());
        sound.set_encoded(Codec::Pcmu, &[1, 2, 3]);
        assert_eq!(sound.encoded().map(|encoded| encoded.payload().len()), Some(3));
        assert_eq!(sound.pcm(), None);
        let mut decodings = 0;
        for _ in 0..2 {
            let pcm = sound.decoded(|_, pcm| {
                decodings += 1;
                pcm[0] = 7;
            });
            assert_eq!(pcm.map(|pcm| pcm[0]), Some(7));
        }
        assert_eq!(decodings, 1);
        sound.start_pcm()[1] = 8;
        assert_eq!((sound.encoded(), sound.pcm().map(|pcm| pcm[1])), (None, Some(8)));
        sound.clear();
        assert_eq!(sound.decoded(|_, _| unreachable!()), None);
    }
}
