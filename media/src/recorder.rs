//! A recording as the reactor sees it: frames of one or two ports, interleaved into chunks.

use crate::event::RecordingId;
use crate::g711::{FRAME_SAMPLES, Frame, Law};
use crate::wav::frame_len;

/// Frames in a chunk handed to the disk thread, 0.5 s.
pub const CHUNK_FRAMES: u32 = 25;

/// A recording in progress. Ports are named by their key in the reactor; a closed one is None.
#[derive(Debug)]
pub struct Recorder {
    /// Its id.
    pub id: RecordingId,
    /// Port heard on the left, or on the only channel.
    pub left: Option<usize>,
    /// Port heard on the right.
    pub right: Option<usize>,
    /// Slot of the wheel it is fed in.
    pub slot: usize,
    channels: u16,
    chunk: Vec<u8>,
    frames: u32,
    last_round: Option<u64>,
    /// Frames the disk thread has to fill with silence before the next chunk.
    owed_frames: u32,
}

/// What one side was heard saying in 20 ms; None is silence.
pub type Heard<'a> = Option<(Law, &'a Frame)>;

impl Recorder {
    /// A recording without audio so far; two channels when `right` is given.
    #[must_use]
    pub fn new(id: RecordingId, left: Option<usize>, right: Option<Option<usize>>) -> Self {
        let channels = if right.is_some() { 2 } else { 1 };
        Self {
            id,
            left,
            right: right.flatten(),
            slot: 0,
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

    /// Moves on to a round of the wheel; returns how many were left out since the last one.
    pub fn advance(&mut self, round: u64) -> u64 {
        let last = self.last_round.replace(round);
        last.map_or(0, |last| round.saturating_sub(last + 1))
    }

    /// Adds 20 ms; true when the chunk is full.
    pub fn push(&mut self, left: Heard<'_>, right: Heard<'_>) -> bool {
        let start = self.chunk.len();
        self.chunk.resize(start + frame_len(self.channels), 0);
        let frame = &mut self.chunk[start..];
        for (side, heard) in [left, right].into_iter().take(self.channels.into()).enumerate() {
            let Some((law, octets)) = heard else { continue };
            let decoder = law.decoder();
            let samples = frame.chunks_exact_mut(2).skip(side).step_by(self.channels.into());
            for (sample, octet) in samples.zip(octets) {
                sample.copy_from_slice(&decoder[usize::from(*octet)].to_le_bytes());
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
        CHUNK_FRAMES as usize * FRAME_SAMPLES * 2 * usize::from(self.channels)
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
        let loud = [Law::A.encode(8000); FRAME_SAMPLES];
        let soft = [Law::Mu.encode(-400); FRAME_SAMPLES];
        let mut recorder = Recorder::new(RecordingId(1), Some(0), Some(Some(1)));
        recorder.push(Some((Law::A, &loud)), Some((Law::Mu, &soft)));
        recorder.push(None, Some((Law::Mu, &soft)));
        let chunk = samples(&recorder.take(Vec::new()).0);
        assert_eq!(chunk.len(), 2 * 2 * FRAME_SAMPLES);
        let (left, right) = (Law::A.decode(loud[0]), Law::Mu.decode(soft[0]));
        assert_eq!(chunk[..2], [left, right]);
        assert_eq!(chunk[318..322], [left, right, 0, right]);
    }

    #[test]
    fn mono_holds_one_side() {
        let octets = [Law::A.encode(8000); FRAME_SAMPLES];
        let mut recorder = Recorder::new(RecordingId(1), Some(0), None);
        recorder.push(Some((Law::A, &octets)), None);
        let chunk = samples(&recorder.take(Vec::new()).0);
        assert_eq!(chunk, [Law::A.decode(octets[0]); FRAME_SAMPLES]);
    }

    #[test]
    fn rounds_left_out_are_counted() {
        let mut recorder = Recorder::new(RecordingId(1), Some(0), None);
        let missed: Vec<_> = [7, 8, 12, 13].map(|round| recorder.advance(round)).into();
        assert_eq!(missed, [0, 0, 3, 0]);
    }

    #[test]
    fn dropped_chunks_are_owed_as_silence() {
        let mut recorder = Recorder::new(RecordingId(1), Some(0), None);
        for _ in 1..CHUNK_FRAMES {
            assert!(!recorder.push(None, None));
        }
        assert!(recorder.push(None, None));
        assert_eq!(recorder.drop_chunk(), CHUNK_FRAMES);
        recorder.push(None, None);
        let (chunk, owed) = recorder.take(Vec::new());
        assert_eq!((chunk.len(), owed), (frame_len(1), CHUNK_FRAMES));
        assert_eq!(recorder.take(Vec::new()).1, 0);
    }
}
