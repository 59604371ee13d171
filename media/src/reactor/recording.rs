//! Recordings and taps in the reactor: from their ports to the disk threads or the application.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::Reactor;
use crate::codec::{PCM_SAMPLES, Pcm};
use crate::disk::Disk;
use crate::event::{Event, PortId, RecordingId, TapId};
use crate::matrix::Sink;
use crate::mixer;
use crate::recorder::{Chunk, Outlet, Recorder, Side};
use crate::wav::{Form, Layout};

/// Pieces of all taps that may wait for the application, 6 MB; what comes then is dropped.
const MAX_WAITING_PIECES: usize = 1024;

impl Reactor {
    pub(super) fn start_recording(
        &mut self,
        id: RecordingId,
        path: PathBuf,
        form: Form,
        left: &[PortId],
        right: Option<&[PortId]>,
    ) {
        let layout = Layout { form, channels: if right.is_some() { 2 } else { 1 } };
        self.disk.open(id, path, layout);
        let empty = self.disk.spare_chunk(Recorder::chunk_sides(layout));
        let key = self.add_recorder(Outlet::File(id), layout, empty);
        self.recording_keys.insert(id, key);
        self.set_sides(key, left, right.unwrap_or_default());
    }

    pub(super) fn start_tap(&mut self, id: TapId, left: &[PortId], right: &[PortId]) {
        let layout = Layout { form: Form::Pcm16, channels: 2 };
        let key = self.add_recorder(Outlet::Tap(id), layout, Chunk::default());
        self.tap_keys.insert(id, key);
        self.set_sides(key, left, right);
    }

    fn add_recorder(&mut self, outlet: Outlet, layout: Layout, empty: Chunk) -> usize {
        let entry = self.recorders.vacant_entry();
        let key = entry.key();
        let slot = key % self.slots.len();
        // Those of one slot have every other turn as well.
        let turn = key / self.slots.len() + key;
        entry.insert(Recorder::new(outlet, layout, slot, turn, empty));
        self.slots[slot].recorders.push(key);
        key
    }

    /// Changes who is heard on either side, between two frames of the recording.
    pub(super) fn set_recording_sides(
        &mut self,
        id: RecordingId,
        left: &[PortId],
        right: &[PortId],
    ) {
        if let Some(key) = self.recording_keys.get(&id).copied() {
            self.set_sides(key, left, right);
        }
    }

    /// Changes who is heard on either side, between two frames of the tap.
    pub(super) fn set_tap_sides(&mut self, id: TapId, left: &[PortId], right: &[PortId]) {
        if let Some(key) = self.tap_keys.get(&id).copied() {
            self.set_sides(key, left, right);
        }
    }

    fn set_sides(&mut self, key: usize, left: &[PortId], right: &[PortId]) {
        let sides = [self.keys(left), self.keys(right)];
        self.route(&[(Sink::Recorder(key), sides.concat())]);
        self.recorders[key].sides = sides;
        self.gather(Sink::Recorder(key));
        self.count_recorders();
    }

    pub(super) fn pause_recording(&mut self, id: RecordingId, paused: bool) {
        if let Some(key) = self.recording_keys.get(&id) {
            self.recorders[*key].set_paused(paused);
        }
    }

    pub(super) fn stop_recording(&mut self, id: RecordingId) {
        let Some(key) = self.recording_keys.remove(&id) else { return };
        let mut recorder = self.remove_recorder(key);
        // What was dropped last is owed as well: the file keeps the clock's time to its end.
        let (rest, owed_frames) = recorder.take(Chunk::default());
        if owed_frames > 0 {
            self.disk.write(id, owed_frames, rest);
        }
        self.disk.close(id, recorder.dropped_frames, recorder.take_pauses_ms());
    }

    pub(super) fn stop_tap(&mut self, id: TapId) {
        let Some(key) = self.tap_keys.remove(&id) else { return };
        let recorder = self.remove_recorder(key);
        let (total, dropped) = (recorder.total_frames(), recorder.dropped_frames);
        self.events.push(Event::TapEnded(id, total, dropped));
    }

    fn remove_recorder(&mut self, key: usize) -> Recorder {
        self.hand_over(key, |_| Chunk::default());
        self.route(&[(Sink::Recorder(key), Vec::new())]);
        self.matrix.remove(Sink::Recorder(key));
        let recorder = self.recorders.remove(key);
        self.slots[recorder.slot].recorders.retain(|other| *other != key);
        self.count_recorders();
        recorder
    }

    fn count_recorders(&self) {
        self.shared.figures.recordings.set(self.recording_keys.len() as u64);
        self.shared.figures.taps.set(self.tap_keys.len() as u64);
    }

    pub(super) fn tick_recorder(&mut self, key: usize, round: u64) {
        let Some(missed) = self.recorders[key].advance(round) else { return };
        // Time that the thread has missed is silence: a recording keeps the clock's time.
        for _ in 0..missed {
            if self.recorders[key].push_silence() {
                self.flush_recorder(key);
            }
        }
        for side in 0..self.recorders[key].channels() {
            self.push_side(key, side, round);
        }
        if self.recorders[key].end_frame() {
            self.flush_recorder(key);
        }
    }

    /// Adds what one side of a recording says in a round.
    fn push_side(&mut self, key: usize, side: usize, round: u64) {
        let recorder = &mut self.recorders[key];
        if recorder.is_paused() {
            return recorder.push(Side::Silence);
        }
        let sources = &recorder.sides[side];
        if let [only] = sources[..]
            && let Some((law, octets)) =
                self.ports.get(only).and_then(|e| e.port.plain_octets(round))
        {
            return recorder.push(Side::Law(law, octets));
        }
        let mut mixed: Pcm = [0; PCM_SAMPLES];
        let is_audible = mixer::mix(sources, round, &mut self.ports, &mut mixed);
        recorder.push(if is_audible { Side::Linear(&mixed) } else { Side::Silence });
    }

    fn flush_recorder(&mut self, key: usize) {
        let layout = self.recorders[key].layout();
        self.hand_over(key, |disk| disk.spare_chunk(Recorder::chunk_sides(layout)));
    }

    /// Hands over what a recorder has gathered; a file goes on with an empty chunk.
    fn hand_over(&mut self, key: usize, empty: impl FnOnce(&Disk) -> Chunk) {
        let recorder = &mut self.recorders[key];
        match recorder.outlet {
            Outlet::File(id) if self.disk.has_room() => {
                let empty = empty(&self.disk);
                let (chunk, owed_frames) = recorder.take(empty);
                self.disk.write(id, owed_frames, chunk);
            }
            Outlet::File(_) => {
                let frames = recorder.drop_chunk();
                self.shared.figures.dropped_frames.add(frames.into());
            }
            Outlet::Tap(id) => {
                if self.shared.waiting_pieces.load(Ordering::Relaxed) >= MAX_WAITING_PIECES {
                    let frames = recorder.drop_chunk();
                    self.shared.figures.dropped_tap_frames.add(frames.into());
                } else if let Some(piece) = recorder.take_piece() {
                    self.shared.waiting_pieces.fetch_add(1, Ordering::Relaxed);
                    self.events.push(Event::TapAudio(id, piece));
                }
            }
        }
    }
}
