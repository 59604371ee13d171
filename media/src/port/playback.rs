//! What plays on a port: files that are being loaded, then the clips they hold.

use crate::codec::{Codec, PCM_SAMPLES, Pcm};
use crate::event::{Event, PlayId, PortId};
use crate::mixer::{Fade, Sum};
use crate::player::{Clips, Playlist};
use crate::sound::Sound;

/// The state of what plays.
#[derive(Debug, Default)]
pub enum Playback {
    /// Nothing plays.
    #[default]
    Idle,
    /// The loader has been asked.
    Loading {
        /// The play.
        play: PlayId,
        /// Whether it goes on for ever.
        looped: bool,
    },
    /// Clips are being played.
    Playing {
        /// The play.
        play: PlayId,
        /// Where it has got to.
        playlist: Playlist,
        /// Whether it has been heard: its first frame takes over from what is heard without it.
        is_heard: bool,
    },
    /// It was stopped, and dies away in the next frame.
    Stopped {
        /// Where it had got to.
        playlist: Playlist,
    },
}

impl Playback {
    /// Begins a play whose files are being loaded; what played before is replaced silently.
    pub fn load(&mut self, play: PlayId, looped: bool) {
        *self = Self::Loading { play, looped };
    }

    /// Takes the loaded clips, unless the play was stopped or replaced meanwhile.
    pub fn loaded(
        &mut self,
        port: PortId,
        loaded: PlayId,
        clips: Result<Clips, String>,
        events: &mut Vec<Event>,
    ) {
        let Self::Loading { play, looped } = *self else { return };
        if play != loaded {
            return;
        }
        *self = match clips {
            Ok(clips) => {
                let playlist = Playlist::new(clips, looped);
                Self::Playing { play, playlist, is_heard: false }
            }
            Err(error) => {
                events.push(Event::PlayEnded(port, play, false, error));
                Self::Idle
            }
        };
    }

    /// Stops what plays.
    pub fn stop(&mut self, port: PortId, events: &mut Vec<Event>) {
        let play = match std::mem::take(self) {
            Self::Idle => return,
            stopped @ Self::Stopped { .. } => {
                *self = stopped;
                return;
            }
            Self::Loading { play, .. } => play,
            Self::Playing { play, playlist, .. } => {
                *self = Self::Stopped { playlist };
                play
            }
        };
        events.push(Event::PlayEnded(port, play, false, String::new()));
    }

    /// Puts the next 20 ms of what plays in place of what the port would hear otherwise.
    ///
    /// Where one takes over from the other in the middle of a sound they are faded into each other.
    pub fn fill(&mut self, port: PortId, codec: Codec, sound: &mut Sound, events: &mut Vec<Event>) {
        match self {
            Self::Idle | Self::Loading { .. } => {}
            Self::Playing { play, playlist, is_heard } => {
                let before = if *is_heard { None } else { linear(sound) };
                *is_heard = true;
                if !playlist.fill(codec, sound) {
                    events.push(Event::PlayEnded(port, *play, true, String::new()));
                    *self = Self::Idle;
                } else if let Some(before) = before {
                    cross_fade(&before, sound);
                }
            }
            Self::Stopped { playlist } => {
                let mut stopped = Sound::default();
                let was_heard = playlist.fill(codec, &mut stopped);
                *self = Self::Idle;
                // Only linear audio and G.711 can be mixed here; other codecs change at once.
                let is_mixable = sound.is_nothing() || linear(sound).is_some();
                if let Some(stopped) = linear(&stopped).filter(|_| was_heard && is_mixable) {
                    cross_fade(&stopped, sound);
                }
            }
        }
    }
}

/// The samples of what is linear or G.711.
fn linear(sound: &Sound) -> Option<Pcm> {
    if let Some(pcm) = sound.pcm() {
        return Some(*pcm);
    }
    let encoded = sound.encoded()?;
    let decoder = encoded.codec().law()?.decoder();
    let mut pcm = [0; PCM_SAMPLES];
    for (sample, octet) in pcm.iter_mut().zip(encoded.payload()) {
        *sample = decoder[usize::from(*octet)];
    }
    Some(pcm)
}

/// Lets `former` die away while `sound` swells.
fn cross_fade(former: &Pcm, sound: &mut Sound) {
    let mut sum = Sum::default();
    if let Some(pcm) = linear(sound) {
        sum.add_fading(&pcm, Fade::In);
    }
    sum.add_fading(former, Fade::Out);
    sum.write(sound.start_pcm());
}
