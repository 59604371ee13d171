//! The disk threads of recordings: one writes, one finishes.
//!
//! Finishing means fsync and hashing, which may take long; a thread of its own keeps it from
//! holding up what is being recorded. While there are recordings the writer looks ten times a second
//! for what is to be done: to be woken for each chunk would cost it more than most of them do, and
//! the reactor a call into the kernel.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use crate::event::{Event, RecordingId, WakingQueue};
use crate::recorder::Chunk;
use crate::wav::Layout;

mod file;

use file::{Create, Finisher, RecordingFile, create_file};

/// Chunks that may wait to be written; beyond it they are dropped. 4 s of 2,000 recordings, then
/// 260 MB of two linear sides, half of that of G.711.
const MAX_WAITING_CHUNKS: usize = 8192;

/// Chunks kept to be used again: those that wait for the disk in ordinary times.
const MAX_SPARE_CHUNKS: usize = 1024;

/// How long what is to be written may wait for the writer's next look.
const LOOK_EVERY: Duration = Duration::from_millis(100);

enum Job {
    Open(RecordingId, PathBuf, Layout),
    Write(RecordingId, u32, Chunk),
    Close(RecordingId, u64, Vec<(u64, u64)>),
}

/// The reactor's end of the disk threads.
pub struct Disk {
    jobs: Sender<Job>,
    limit: usize,
    waiting: Arc<AtomicUsize>,
    spare: Receiver<Chunk>,
}

impl Disk {
    /// Starts the threads; they end when this is dropped and all is written.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(events: WakingQueue<Event>) -> io::Result<(Self, [JoinHandle<()>; 2])> {
        Self::start_with(events, MAX_WAITING_CHUNKS, create_file)
    }

    /// As `start`, with another limit and another way to create files.
    pub(crate) fn start_with(
        events: WakingQueue<Event>,
        limit: usize,
        create: impl Fn(&Path, Layout) -> io::Result<File> + Send + 'static,
    ) -> io::Result<(Self, [JoinHandle<()>; 2])> {
        let (jobs, job_queue) = unbounded();
        let (finish, finish_queue) = unbounded();
        let (spare_in, spare) = bounded(MAX_SPARE_CHUNKS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            files: HashMap::new(),
            untold: Vec::new(),
            octets: Vec::new(),
            create: Box::new(create),
            waiting: Arc::clone(&waiting),
            spare: spare_in,
            finish,
        };
        let writing = thread::Builder::new()
            .name("media-disk".into())
            .spawn(move || writer.run(&job_queue))?;
        let finishing = thread::Builder::new().name("media-finish".into()).spawn(move || {
            let mut finisher = Finisher::default();
            while let Ok(first) = finish_queue.recv() {
                let recordings = std::iter::once(first).chain(finish_queue.try_iter());
                for (id, summary) in finisher.finish(recordings) {
                    events.push(Event::RecordingEnded(id, Box::new(summary)));
                }
            }
        })?;
        Ok((Self { jobs, limit, waiting, spare }, [writing, finishing]))
    }

    /// Creates the file; a failure is reported as the recording's end.
    pub fn open(&self, id: RecordingId, path: PathBuf, layout: Layout) {
        let _sent = self.jobs.send(Job::Open(id, path, layout));
    }

    /// Whether another chunk may be written.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.limit
    }

    /// Writes `silent_frames` of silence, then a chunk.
    pub fn write(&self, id: RecordingId, silent_frames: u32, chunk: Chunk) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _sent = self.jobs.send(Job::Write(id, silent_frames, chunk));
    }

    /// Finishes the file and reports it, with the frames that were dropped and the pauses.
    pub fn close(&self, id: RecordingId, dropped_frames: u64, pauses_ms: Vec<(u64, u64)>) {
        let _sent = self.jobs.send(Job::Close(id, dropped_frames, pauses_ms));
    }

    /// An empty chunk with room for so many sides: one that has been written, if there is one.
    #[must_use]
    pub fn spare_chunk(&self, sides: usize) -> Chunk {
        self.spare.try_recv().unwrap_or_else(|_| Chunk::with_room(sides))
    }
}

struct Writer {
    files: HashMap<RecordingId, RecordingFile>,
    /// Those whose headers do not tell of their last chunk.
    untold: Vec<RecordingId>,
    /// What is being written; the same room for all.
    octets: Vec<u8>,
    create: Box<Create>,
    waiting: Arc<AtomicUsize>,
    spare: Sender<Chunk>,
    finish: Sender<(RecordingId, RecordingFile)>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.try_recv() {
                Ok(job) => self.take(job),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) if self.files.is_empty() => match jobs.recv() {
                    Ok(job) => self.take(job),
                    Err(_) => break,
                },
                Err(TryRecvError::Empty) => {
                    self.tell_lengths();
                    thread::sleep(LOOK_EVERY);
                }
            }
        }
        for unfinished in self.files.drain() {
            let _sent = self.finish.send(unfinished);
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Open(id, path, layout) => {
                let recording = RecordingFile::create(path, layout, &*self.create);
                if recording.has_failed() {
                    let _sent = self.finish.send((id, recording));
                } else {
                    self.files.insert(id, recording);
                }
            }
            Job::Write(id, silent_frames, mut chunk) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.write(id, silent_frames, &chunk);
                chunk.clear();
                let _kept = self.spare.try_send(chunk);
            }
            Job::Close(id, dropped_frames, pauses_ms) => {
                if let Some(mut recording) = self.files.remove(&id) {
                    recording.dropped_frames = dropped_frames;
                    recording.pauses_ms = pauses_ms;
                    let _sent = self.finish.send((id, recording));
                }
            }
        }
    }

    /// A file that cannot be written is finished at once, so that the alarm is not late.
    fn write(&mut self, id: RecordingId, silent_frames: u32, chunk: &Chunk) {
        let Some(recording) = self.files.get_mut(&id) else { return };
        recording.write(silent_frames, chunk, &mut self.octets);
        self.untold.push(id);
        self.end_failed(id);
    }

    /// Tells in the headers what has been written; a file that has ended since gets its last one
    /// anyway.
    fn tell_lengths(&mut self) {
        for id in std::mem::take(&mut self.untold) {
            if let Some(recording) = self.files.get_mut(&id) {
                recording.tell_length();
                self.end_failed(id);
            }
        }
    }

    fn end_failed(&mut self, id: RecordingId) {
        if self.files.get(&id).is_some_and(RecordingFile::has_failed)
            && let Some(recording) = self.files.remove(&id)
        {
            let _sent = self.finish.send((id, recording));
        }
    }
}

#[cfg(test)]
mod tests;
