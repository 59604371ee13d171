//! Playing clips one after the other, without a gap between them.

use std::sync::Arc;

use crate::codec::{Codec, PCM_SAMPLES};
use crate::g711::Law;
use crate::sound::Sound;

/// The clips of one play, shared by all ports that play them.
///
/// For ports that speak G.711 they are kept encoded, which costs a port a copy of 160 octets a
/// frame; what other codecs play is linear and goes through the port's encoder.
#[derive(Clone, Debug, PartialEq)]
pub enum Clips {
    /// Octets of one law.
    Law(Law, Vec<Arc<[u8]>>),
    /// Samples.
    Linear(Vec<Arc<[i16]>>),
}

/// Clips with the place reached.
#[derive(Debug)]
pub enum Playlist {
    /// Octets of one law.
    Law(Law, Track<u8>),
    /// Samples.
    Linear(Track<i16>),
}

impl Playlist {
    /// A playlist at its start. One without any audio is over at once, even when looped.
    #[must_use]
    pub fn new(clips: Clips, looped: bool) -> Self {
        match clips {
            Clips::Law(law, clips) => Self::Law(law, Track::new(clips, looped)),
            Clips::Linear(clips) => Self::Linear(Track::new(clips, looped)),
        }
    }

    /// Fills the next 20 ms for a port of `codec`, padded with silence at the end; false when all
    /// is played.
    pub fn fill(&mut self, codec: Codec, sound: &mut Sound) -> bool {
        match (self, codec.law()) {
            (Self::Law(law, track), Some(wanted)) => {
                let frame = sound.start_encoded(codec, PCM_SAMPLES);
                let filled = track.fill(frame);
                // A re-INVITE may change the law while a prompt plays.
                law.transcode(wanted, &mut frame[..filled]);
                frame[filled..].fill(wanted.silence());
                filled > 0
            }
            (Self::Law(law, track), None) => {
                let mut octets = [law.silence(); PCM_SAMPLES];
                let filled = track.fill(&mut octets);
                let decoder = law.decoder();
                for (sample, octet) in sound.start_pcm().iter_mut().zip(octets) {
                    *sample = decoder[usize::from(octet)];
                }
                filled > 0
            }
            (Self::Linear(track), _) => {
                let frame = sound.start_pcm();
                let filled = track.fill(frame);
                frame[filled..].fill(0);
                filled > 0
            }
        }
    }
}

/// Clips of one form.
#[derive(Debug)]
pub struct Track<T> {
    clips: Vec<Arc<[T]>>,
    looped: bool,
    clip: usize,
    sample: usize,
}

impl<T: Copy> Track<T> {
    fn new(clips: Vec<Arc<[T]>>, looped: bool) -> Self {
        let audible = clips.iter().any(|clip| !clip.is_empty());
        Self { clips, looped: looped && audible, clip: 0, sample: 0 }
    }

    /// Copies what comes next; returns how much there was.
    fn fill(&mut self, frame: &mut [T]) -> usize {
        let mut filled = 0;
        while filled < frame.len() {
            let Some(clip) = self.clips.get(self.clip) else {
                if self.looped {
                    self.clip = 0;
                    continue;
                }
                break;
            };
            let rest = &clip[self.sample..];
            let count = rest.len().min(frame.len() - filled);
            frame[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            self.sample += count;
            if self.sample == clip.len() {
                self.clip += 1;
                self.sample = 0;
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoded;

    fn playlist(law: Law, clips: &[(u8, usize)], looped: bool) -> Playlist {
        let clips = clips.iter().map(|(octet, length)| vec![*octet; *length].into()).collect();
        Playlist::new(Clips::Law(law, clips), looped)
    }

    fn frame(playlist: &mut Playlist, codec: Codec) -> Option<Vec<u8>> {
        let mut sound = Sound::default();
        let filled = playlist.fill(codec, &mut sound);
        let payload = sound.encoded().map(Encoded::payload).unwrap_or_default();
        filled.then(|| payload.to_vec())
    }

    #[test]
    fn clips_follow_without_a_gap() {
        let mut playlist = playlist(Law::A, &[(1, 200), (2, 0), (3, 100)], false);
        assert_eq!(frame(&mut playlist, Codec::Pcma).unwrap(), [1; 160]);
        let second = frame(&mut playlist, Codec::Pcma).unwrap();
        assert_eq!(second[..40], [1; 40]);
        assert_eq!(second[40..140], [3; 100]);
        assert_eq!(second[140..], [Law::A.silence(); 20]);
        let mut sound = Sound::default();
        assert!(!playlist.fill(Codec::Pcma, &mut sound));
        assert_eq!(sound.encoded().unwrap().payload(), [Law::A.silence(); 160]);
    }

    #[test]
    fn a_loop_goes_on_in_the_middle_of_a_frame() {
        let mut playlist = playlist(Law::Mu, &[(1, 100), (2, 20)], true);
        let first = frame(&mut playlist, Codec::Pcmu).unwrap();
        assert_eq!(first[..100], [1; 100]);
        assert_eq!(first[100..120], [2; 20]);
        assert_eq!(first[120..], [1; 40]);
        assert_eq!(frame(&mut playlist, Codec::Pcmu).unwrap()[..60], [1; 60]);
    }

    #[test]
    fn an_empty_loop_ends() {
        assert_eq!(frame(&mut playlist(Law::A, &[(1, 0)], true), Codec::Pcma), None);
    }

    #[test]
    fn another_codec_is_transcoded() {
        let loud = Law::A.encode(9000);
        let mut playlist = playlist(Law::A, &[(loud, 400)], false);
        let octets = frame(&mut playlist, Codec::Pcmu).unwrap();
        assert!((8500..9500).contains(&Law::Mu.decode(octets[0])));
        let mut sound = Sound::default();
        assert!(playlist.fill(Codec::G722, &mut sound));
        assert_eq!(sound.pcm().unwrap(), &[Law::A.decode(loud); PCM_SAMPLES]);
        assert!(playlist.fill(Codec::G722, &mut sound));
        let pcm = sound.pcm().unwrap();
        assert_eq!((pcm[79], pcm[80].abs() <= 8), (Law::A.decode(loud), true));
    }

    #[test]
    fn linear_clips_stay_linear() {
        let mut playlist = Playlist::new(Clips::Linear(vec![vec![5; 100].into()]), false);
        let mut sound = Sound::default();
        assert!(playlist.fill(Codec::Pcma, &mut sound));
        assert_eq!(sound.pcm().unwrap()[98..102], [5, 5, 0, 0]);
        assert!(!playlist.fill(Codec::Pcma, &mut sound));
    }
}
