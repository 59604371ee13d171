//! A recording as the reactor sees it: frames of one or two sides, gathered into chunks.

use crate::event::{RecordingId, TapId, TapPiece};
use crate::g711::FRAME_MS;
use crate::wav::Layout;

mod chunk;

pub use chunk::{Chunk, Side};

/// Frames in a chunk handed to the disk thread, 1 s.
pub const CHUNK_FRAMES: u32 = 50;

/// Frames in a piece handed to the application, 200 ms.
pub const PIECE_FRAMES: u32 = 10;

/// Where the audio goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlet {
    /// A file.
    File(RecordingId),
    /// The application.
    Tap(TapId),
}

/// A recording or a tap in progress.
#[derive(Debug)]
pub struct Recorder {
    /// Where the audio goes.
    pub outlet: Outlet,
    /// Keys of the ports heard on the left, or only, and on the right channel.
    pub sides: [Vec<usize>; 2],
    /// Slot of the wheel it is fed in.
    pub slot: usize,
    /// Frames that were dropped because they were not taken in time.
    pub dropped_frames: u64,
    layout: Layout,
    chunk: Chunk,
    frames: u32,
    /// Frames that the present chunk is to have.
    room_frames: u32,
    total_frames: u64,
    last_round: Option<u64>,
    /// Frames the disk thread has to fill with silence before the next chunk.
    owed_frames: u32,
    paused_since: Option<u64>,
    pauses: Vec<(u64, u64)>,
}

impl Recorder {
    /// A recording without audio so far, whose first chunk is `empty`. Calls may all begin at once:
    /// the first chunk of a file is shorter, by the `turn` of the recording, so that chunks are
    /// handed over evenly.
    #[must_use]
    pub fn new(outlet: Outlet, layout: Layout, slot: usize, turn: usize, empty: Chunk) -> Self {
        let room_frames = match outlet {
            Outlet::File(_) => CHUNK_FRAMES - turn as u32 % CHUNK_FRAMES,
            Outlet::Tap(_) => PIECE_FRAMES,
        };
        Self {
            outlet,
            sides: Default::default(),
            slot,
            dropped_frames: 0,
            layout,
            chunk: empty,
            frames: 0,
            room_frames,
            total_frames: 0,
            last_round: None,
            owed_frames: 0,
            paused_since: None,
            pauses: Vec::new(),
        }
    }

    /// Moves on to a round of the wheel; returns how many were left out since the last one, or
    /// None when it was met before: its slot has changed.
    pub fn advance(&mut self, round: u64) -> Option<u64> {
        match self.last_round.replace(round) {
            Some(last) if last == round => None,
            last => Some(last.map_or(0, |last| round.saturating_sub(last + 1))),
        }
    }

    /// Pauses or resumes: paused time is silence, so that both channels keep the clock's time.
    pub fn set_paused(&mut self, paused: bool) {
        match (self.paused_since, paused) {
            (None, true) => self.paused_since = Some(self.total_frames),
            (Some(since), false) => {
                self.pauses.push((since, self.total_frames));
                self.paused_since = None;
            }
            _ => {}
        }
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    /// The spans it was paused in, in ms from its start; ends a pause.
    pub fn take_pauses_ms(&mut self) -> Vec<(u64, u64)> {
        self.set_paused(false);
        let in_ms = |frames: u64| frames * u64::from(FRAME_MS);
        self.pauses.drain(..).map(|(since, until)| (in_ms(since), in_ms(until))).collect()
    }

    /// Adds 20 ms of the next side of its frame.
    pub fn push(&mut self, side: Side<'_>) {
        self.chunk.push(side);
    }

    /// Ends a frame whose sides were all added; true when the chunk is full.
    pub fn end_frame(&mut self) -> bool {
        self.frames += 1;
        self.total_frames += 1;
        self.frames >= self.room_frames
    }

    /// Adds 20 ms of silence; true when the chunk is full.
    pub fn push_silence(&mut self) -> bool {
        for _ in 0..self.layout.channels {
            self.push(Side::Silence);
        }
        self.end_frame()
    }

    /// How its frames are written.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Channels of its frames, each of which is a side.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.layout.channels.into()
    }

    /// Frames it has taken so far.
    #[must_use]
    pub fn total_frames(&self) -> u64 {
        self.total_frames
    }

    /// The piece of a tap that waits, leaving nothing in its place; None when there is none.
    pub fn take_piece(&mut self) -> Option<TapPiece> {
        let frames = std::mem::take(&mut self.frames);
        let mut interleaved = Vec::new();
        self.chunk.render(self.layout, &mut interleaved);
        self.chunk.clear();
        let first_frame = self.total_frames - u64::from(frames);
        (frames > 0).then_some(TapPiece { first_frame, interleaved })
    }

    /// Takes the chunk, leaving `empty` in its place, and the silence owed before it.
    pub fn take(&mut self, mut empty: Chunk) -> (Chunk, u32) {
        empty.clear();
        self.frames = 0;
        self.room_frames = self.capacity_frames();
        (std::mem::replace(&mut self.chunk, empty), std::mem::take(&mut self.owed_frames))
    }

    /// Drops the chunk, to be replaced by silence; returns how many frames it held.
    pub fn drop_chunk(&mut self) -> u32 {
        let frames = std::mem::take(&mut self.frames);
        self.room_frames = self.capacity_frames();
        self.chunk.clear();
        self.owed_frames += frames;
        self.dropped_frames += u64::from(frames);
        frames
    }

    fn capacity_frames(&self) -> u32 {
        match self.outlet {
            Outlet::File(_) => CHUNK_FRAMES,
            Outlet::Tap(_) => PIECE_FRAMES,
        }
    }

    /// Sides that a full chunk of a file has.
    #[must_use]
    pub fn chunk_sides(layout: Layout) -> usize {
        CHUNK_FRAMES as usize * usize::from(layout.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PCM_SAMPLES;
    use crate::wav::Form;

    fn recorder(form: Form, channels: u16) -> Recorder {
        Recorder::new(
            Outlet::File(RecordingId(1)),
            Layout { form, channels },
            0,
            0,
            Chunk::default(),
        )
    }

    fn push(recorder: &mut Recorder, sides: &[Side<'_>]) -> bool {
        for side in sides {
            recorder.push(*side);
        }
        recorder.end_frame()
    }

    #[test]
    fn rounds_left_out_are_counted_and_none_is_met_twice() {
        let mut recorder = recorder(Form::Pcm16, 1);
        let missed: Vec<_> = [7, 8, 8, 12, 13].map(|round| recorder.advance(round)).into();
        assert_eq!(missed, [Some(0), Some(0), None, Some(3), Some(0)]);
    }

    #[test]
    fn dropped_chunks_are_owed_as_silence() {
        let mut recorder = recorder(Form::Pcm16, 1);
        for _ in 1..CHUNK_FRAMES {
            assert!(!recorder.push_silence());
        }
        assert!(recorder.push_silence());
        assert_eq!(recorder.drop_chunk(), CHUNK_FRAMES);
        push(&mut recorder, &[Side::Linear(&[1; PCM_SAMPLES])]);
        let (chunk, owed) = recorder.take(Chunk::default());
        assert_eq!((chunk.sides(), owed), (1, CHUNK_FRAMES));
        assert_eq!(recorder.take(Chunk::default()).1, 0);
    }

    #[test]
    fn recordings_that_begin_together_hand_over_their_chunks_in_turns() {
        let layout = Layout { form: Form::Pcm16, channels: 1 };
        for turn in 0..2 * CHUNK_FRAMES {
            let outlet = Outlet::File(RecordingId(1));
            let mut recorder = Recorder::new(outlet, layout, 0, turn as usize, Chunk::default());
            let mut full = Vec::new();
            for frame in 1..=3 * CHUNK_FRAMES {
                if recorder.push_silence() {
                    recorder.take(Chunk::default());
                    full.push(frame);
                }
            }
            let first = CHUNK_FRAMES - turn % CHUNK_FRAMES;
            assert_eq!(full, [first, first + CHUNK_FRAMES, first + 2 * CHUNK_FRAMES]);
        }
    }

    #[test]
    fn pauses_are_spans_of_the_file() {
        let mut recorder = recorder(Form::Pcm16, 1);
        for frame in 0..10 {
            recorder.set_paused((2..5).contains(&frame) || frame >= 8);
            recorder.push_silence();
        }
        assert!(recorder.is_paused());
        assert_eq!(recorder.take_pauses_ms(), [(40, 100), (160, 200)]);
    }

    #[test]
    fn a_tap_says_where_its_pieces_begin() {
        let layout = Layout { form: Form::Pcm16, channels: 2 };
        let mut tap = Recorder::new(Outlet::Tap(TapId(1)), layout, 0, 0, Chunk::default());
        for _ in 0..3 {
            for frame in 1..=PIECE_FRAMES {
                let sides = [Side::Silence, Side::Linear(&[1; PCM_SAMPLES])];
                assert_eq!(push(&mut tap, &sides), frame == PIECE_FRAMES);
            }
            let piece = tap.take_piece().unwrap();
            assert_eq!(piece.first_frame + u64::from(PIECE_FRAMES), tap.total_frames());
            assert_eq!(piece.interleaved.len(), PIECE_FRAMES as usize * layout.frame_len());
            assert_eq!(piece.interleaved[..4], [0, 0, 1, 0]);
        }
        assert_eq!(tap.take_piece(), None);
    }
}
