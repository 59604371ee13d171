//! Playing encoded clips one after the other, without a gap between them.

use std::sync::Arc;

use crate::g711::{FRAME_SAMPLES, Frame, Law};

/// A prompt, encoded once and shared by all ports that play it.
pub type Clip = Arc<[u8]>;

/// Clips of one law with the place reached.
#[derive(Debug)]
pub struct Playlist {
    clips: Vec<Clip>,
    law: Law,
    looped: bool,
    clip: usize,
    octet: usize,
}

impl Playlist {
    /// A playlist at its start. One without any audio is over at once, even when looped.
    #[must_use]
    pub fn new(clips: Vec<Clip>, law: Law, looped: bool) -> Self {
        let audible = clips.iter().any(|clip| !clip.is_empty());
        Self { clips, law, looped: looped && audible, clip: 0, octet: 0 }
    }

    /// Fills the next frame in `law`, padded with silence at the end; false when all is played.
    pub fn fill(&mut self, law: Law, frame: &mut Frame) -> bool {
        let mut filled = 0;
        while filled < FRAME_SAMPLES {
            let Some(clip) = self.clips.get(self.clip) else {
                if self.looped {
                    self.clip = 0;
                    continue;
                }
                break;
            };
            let rest = &clip[self.octet..];
            let count = rest.len().min(FRAME_SAMPLES - filled);
            frame[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            self.octet += count;
            if self.octet == clip.len() {
                self.clip += 1;
                self.octet = 0;
            }
        }
        // A re-INVITE may change the law while a prompt plays.
        self.law.transcode(law, &mut frame[..filled]);
        frame[filled..].fill(law.silence());
        filled > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(octet: u8, length: usize) -> Clip {
        vec![octet; length].into()
    }

    #[test]
    fn clips_follow_without_a_gap() {
        let clips = vec![clip(1, 200), clip(2, 0), clip(3, 100)];
        let mut playlist = Playlist::new(clips, Law::A, false);
        let mut frame = [0; FRAME_SAMPLES];
        assert!(playlist.fill(Law::A, &mut frame));
        assert_eq!(frame, [1; FRAME_SAMPLES]);
        assert!(playlist.fill(Law::A, &mut frame));
        assert_eq!(frame[..40], [1; 40]);
        assert_eq!(frame[40..140], [3; 100]);
        assert_eq!(frame[140..], [Law::A.silence(); 20]);
        assert!(!playlist.fill(Law::A, &mut frame));
        assert_eq!(frame, [Law::A.silence(); FRAME_SAMPLES]);
    }

    #[test]
    fn a_loop_goes_on_in_the_middle_of_a_frame() {
        let mut playlist = Playlist::new(vec![clip(1, 100), clip(2, 20)], Law::Mu, true);
        let mut frame = [0; FRAME_SAMPLES];
        assert!(playlist.fill(Law::Mu, &mut frame));
        assert_eq!(frame[..100], [1; 100]);
        assert_eq!(frame[100..120], [2; 20]);
        assert_eq!(frame[120..], [1; 40]);
        assert!(playlist.fill(Law::Mu, &mut frame));
        assert_eq!(frame[..60], [1; 60]);
    }

    #[test]
    fn an_empty_loop_ends() {
        let mut playlist = Playlist::new(vec![clip(1, 0)], Law::A, true);
        assert!(!playlist.fill(Law::A, &mut [0; FRAME_SAMPLES]));
    }

    #[test]
    fn another_law_is_transcoded() {
        let mut playlist = Playlist::new(vec![clip(Law::A.encode(9000), 160)], Law::A, false);
        let mut frame = [0; FRAME_SAMPLES];
        playlist.fill(Law::Mu, &mut frame);
        assert!((8500..9500).contains(&Law::Mu.decode(frame[0])));
    }
}
