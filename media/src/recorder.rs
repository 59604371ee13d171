//! A recording as the reactor sees it: frames of one or two sides, interleaved into chunks.

use crate::codec::{PCM_SAMPLES, Pcm};
use crate::event::RecordingId;
use crate::wav::frame_len;

/// Frames in a chunk handed to the disk thread, 0.5 s.
pub const CHUNK_FRAMES: u32 = 25;

/// A recording in progress.
#[derive(Debug)]
pub struct Recorder {
    /// Its id.
    pub id: RecordingId,
    /// Keys of the ports heard on the left, or only, and on the right channel.
    pub sides: [Vec<usize>; 2],
    /// Slot of the wheel it is fed in.
    pub slot: usize,
    channels: u16,
    chunk: Vec<u8>,
    frames: u32,
    last_round: Option<u64>,
    /// Frames the disk thread has to fill with silence before the next chunk.
    owed_frames: u32,
}

impl Recorder {
    /// A recording without audio so far, of one or two channels.
    #[must_use]
    pub fn new(id: RecordingId, channels: u16, slot: usize) -> Self {
        Self {
            id,
            sides: Default::default(),
            slot,
            channels,
            chunk: Vec::new(),
            frames: 0,
            last_round: None,
            owed_frames: 0,
        }
    }

    /// 1 or 2.
    #[must_use]
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Moves on to a round of the wheel; returns how many were left out since the last one, or
    /// None when it was met before: its slot has changed.
    pub fn advance(&mut self, round: u64) -> Option<u64> {
        match self.last_round.replace(round) {
            Some(last) if last == round => None,
            last => Some(last.map_or(0, |last| round.saturating_sub(last + 1))),
        }
    }

    /// Adds 20 ms of each side, None of which is silence; true when the chunk is full.
    pub fn push(&mut self, sides: [Option<&Pcm>; 2]) -> bool {
        let start = self.chunk.len();
        self.chunk.resize(start + frame_len(self.channels), 0);
        let frame = &mut self.chunk[start..];
        for (side, pcm) in sides.into_iter().take(self.channels.into()).enumerate() {
            let Some(pcm) = pcm else { continue };
            let places = frame.chunks_exact_mut(2).skip(side).step_by(self.channels.into());
            for (place, sample) in places.zip(pcm) {
                place.copy_from_slice(&sample.to_le_bytes());
            }
        }
        self.frames += 1;
        self.frames >= CHUNK_FRAMES
    }

    /// Takes the chunk, leaving `empty` in its place, and the silence owed before it.
    pub fn take(&mut self, mut empty: Vec<u8>) -> (Vec<u8>, u32) {
        empty.clear();
        self.frames = 0;
        (std::mem::replace(&mut self.chunk, empty), std::mem::take(&mut self.owed_frames))
    }

    /// Drops the chunk, to be replaced by silence; returns how many frames it held.
    pub fn drop_chunk(&mut self) -> u32 {
        let frames = std::mem::take(&mut self.frames);
        self.chunk.clear();
        self.owed_frames += frames;
        frames
    }

    /// Octets a full chunk takes.
    #[must_use]
    pub fn chunk_capacity(&self) -> usize {
        CHUNK_FRAMES as usize * PCM_SAMPLES * 2 * usize::from(self.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(chunk: &[u8]) -> Vec<i16> {
        chunk.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn sides_are_interleaved_and_absent_ones_are_silent() {
        let (loud, soft) = ([8000; PCM_SAMPLES], [-400; PCM_SAMPLES]);
        let mut recorder = Recorder::new(RecordingId(1), 2, 0);
        recorder.push([Some(&loud), Some(&soft)]);
        recorder.push([None, Some(&soft)]);
        let chunk = samples(&recorder.take(Vec::new()).0);
        assert_eq!(chunk.len(), 2 * 2 * PCM_SAMPLES);
        assert_eq!(chunk[..2], [8000, -400]);
        assert_eq!(chunk[318..322], [8000, -400, 0, -400]);
    }

    #[test]
    fn mono_holds_one_side() {
        let loud = [8000; PCM_SAMPLES];
        let mut recorder = Recorder::new(RecordingId(1), 1, 0);
        recorder.push([Some(&loud), Some(&loud)]);
        assert_eq!(samples(&recorder.take(Vec::new()).0), loud);
    }

    #[test]
    fn rounds_left_out_are_counted_and_none_is_met_twice() {
        let mut recorder = Recorder::new(RecordingId(1), 1, 0);
        let missed: Vec<_> = [7, 8, 8, 12, 13].map(|round| recorder.advance(round)).into();
        assert_eq!(missed, [Some(0), Some(0), None, Some(3), Some(0)]);
    }

    #[test]
    fn dropped_chunks_are_owed_as_silence() {
        let mut recorder = Recorder::new(RecordingId(1), 1, 0);
        for _ in 1..CHUNK_FRAMES {
            assert!(!recorder.push([None, None]));
        }
        assert!(recorder.push([None, None]));
        assert_eq!(recorder.drop_chunk(), CHUNK_FRAMES);
        recorder.push([None, None]);
        let (chunk, owed) = recorder.take(Vec::new());
        assert_eq!((chunk.len(), owed), (frame_len(1), CHUNK_FRAMES));
        assert_eq!(recorder.take(Vec::new()).1, 0);
    }
}
