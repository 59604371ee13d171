//! Recordings in the reactor: from their ports to the disk threads.

use std::path::PathBuf;

use super::Reactor;
use crate::codec::{PCM_SAMPLES, Pcm};
use crate::event::{PortId, RecordingId};
use crate::matrix::Sink;
use crate::mixer;
use crate::recorder::Recorder;

impl Reactor {
    pub(super) fn start_recording(
        &mut self,
        id: RecordingId,
        path: PathBuf,
        left: &[PortId],
        right: Option<&[PortId]>,
    ) {
        let channels = if right.is_some() { 2 } else { 1 };
        self.disk.open(id, path, channels);
        let entry = self.recordings.vacant_entry();
        let key = entry.key();
        let slot = key % self.slots.len();
        entry.insert(Recorder::new(id, channels, slot));
        self.slots[slot].recordings.push(key);
        self.recording_keys.insert(id, key);
        self.shared.figures.recordings.set(self.recordings.len() as u64);
        self.set_recording_sides(id, left, right.unwrap_or_default());
    }

    /// Changes who is heard on either side, between two frames of the recording.
    pub(super) fn set_recording_sides(
        &mut self,
        id: RecordingId,
        left: &[PortId],
        right: &[PortId],
    ) {
        let Some(key) = self.recording_keys.get(&id).copied() else { return };
        let sides = [self.keys(left), self.keys(right)];
        self.route(&[(Sink::Recorder(key), sides.concat())]);
        self.recordings[key].sides = sides;
        self.gather(Sink::Recorder(key));
    }

    pub(super) fn stop_recording(&mut self, id: RecordingId) {
        let Some(key) = self.recording_keys.remove(&id) else { return };
        self.flush_recording(key);
        self.route(&[(Sink::Recorder(key), Vec::new())]);
        self.matrix.remove(Sink::Recorder(key));
        let recorder = self.recordings.remove(key);
        self.slots[recorder.slot].recordings.retain(|recording| *recording != key);
        self.disk.close(id, self.dropped.remove(&id).unwrap_or_default());
        self.shared.figures.recordings.set(self.recordings.len() as u64);
    }

    pub(super) fn tick_recording(&mut self, key: usize, round: u64) {
        let Some(missed) = self.recordings[key].advance(round) else { return };
        // Time that the thread has missed is silence: a recording keeps the clock's time.
        for _ in 0..missed {
            if self.recordings[key].push([None, None]) {
                self.flush_recording(key);
            }
        }
        let mut mixed: [Pcm; 2] = [[0; PCM_SAMPLES]; 2];
        let mut is_audible = [false; 2];
        let recorder = &mut self.recordings[key];
        for (side, ports) in recorder.sides.iter().enumerate() {
            let sum = mixer::sum(ports, round, &mut self.ports);
            if !sum.is_nothing() {
                sum.write(&mut mixed[side]);
                is_audible[side] = true;
            }
        }
        let [left, right] = &mixed;
        if recorder.push([is_audible[0].then_some(left), is_audible[1].then_some(right)]) {
            self.flush_recording(key);
        }
    }

    fn flush_recording(&mut self, key: usize) {
        let recorder = &mut self.recordings[key];
        if self.disk.has_room() {
            let empty = self.disk.spare_chunk(recorder.chunk_capacity());
            let (chunk, owed_frames) = recorder.take(empty);
            self.disk.write(recorder.id, owed_frames, chunk);
        } else {
            let frames = u64::from(recorder.drop_chunk());
            self.shared.figures.dropped_frames.add(frames);
            *self.dropped.entry(recorder.id).or_default() += frames;
        }
    }
}
