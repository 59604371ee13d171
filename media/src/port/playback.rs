//! What plays on a port: files that are being loaded, then the clips they hold.

use crate::codec::Codec;
use crate::event::{Event, PlayId, PortId};
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
            Ok(clips) => Self::Playing { play, playlist: Playlist::new(clips, looped) },
            Err(error) => {
                events.push(Event::PlayEnded(port, play, false, error));
                Self::Idle
            }
        };
    }

    /// Stops what plays.
    pub fn stop(&mut self, port: PortId, events: &mut Vec<Event>) {
        match std::mem::take(self) {
            Self::Idle => {}
            Self::Loading { play, .. } | Self::Playing { play, .. } => {
                events.push(Event::PlayEnded(port, play, false, String::new()));
            }
        }
    }

    /// Puts the next 20 ms of what plays in place of what the port would hear otherwise.
    pub fn fill(&mut self, port: PortId, codec: Codec, sound: &mut Sound, events: &mut Vec<Event>) {
        let Self::Playing { play, playlist } = self else { return };
        if !playlist.fill(codec, sound) {
            events.push(Event::PlayEnded(port, *play, true, String::new()));
            *self = Self::Idle;
        }
    }
}
