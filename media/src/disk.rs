//! The disk threads of recordings: one writes, one finishes.
//!
//! Finishing means fsync and hashing, which may take long; a thread of its own keeps it from
//! holding up what is being recorded.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use sha2::{Digest, Sha256};

use crate::event::{Event, RecordingId, RecordingSummary, WakingQueue};
use crate::g711::FRAME_MS;
use crate::recorder::{CHUNK_FRAMES, Chunk};
use crate::wav::Layout;

/// Chunks that may wait to be written; beyond it they are dropped. 4 s of 2,000 recordings, then
/// 260 MB of two linear sides, half of that of G.711.
const MAX_WAITING_CHUNKS: usize = 16_384;

/// Chunks kept to be used again: those that wait for the disk in ordinary times.
const MAX_SPARE_CHUNKS: usize = 2048;

/// Chunks between two updates of the header, 1 s: what a crash can cost.
const HEADER_EVERY_CHUNKS: u32 = 50 / CHUNK_FRAMES;

/// Recordings hold personal data: no other user may read them.
const FILE_MODE: u32 = 0o640;

/// Creates a file with its header.
type Create = dyn Fn(&Path, Layout) -> io::Result<File> + Send;

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
            for (id, recording) in finish_queue {
                events.push(Event::RecordingEnded(id, Box::new(recording.finish())));
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

    /// A chunk that has been written, to be used again.
    #[must_use]
    pub fn spare_chunk(&self, sides: usize) -> Chunk {
        self.spare.try_recv().unwrap_or_else(|_| Chunk::with_room(sides))
    }
}

struct Writer {
    files: HashMap<RecordingId, RecordingFile>,
    /// A chunk as its file has it; the same room for all.
    octets: Vec<u8>,
    create: Box<Create>,
    waiting: Arc<AtomicUsize>,
    spare: Sender<Chunk>,
    finish: Sender<(RecordingId, RecordingFile)>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Open(id, path, layout) => {
                    let recording = RecordingFile::create(path, layout, &*self.create);
                    if recording.error.is_empty() {
                        self.files.insert(id, recording);
                    } else {
                        let _sent = self.finish.send((id, recording));
                    }
                }
                Job::Write(id, silent_frames, chunk) => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.write(id, silent_frames, &chunk);
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
        for unfinished in self.files.drain() {
            let _sent = self.finish.send(unfinished);
        }
    }

    /// A file that cannot be written is finished at once, so that the alarm is not late.
    fn write(&mut self, id: RecordingId, silent_frames: u32, chunk: &Chunk) {
        let Some(recording) = self.files.get_mut(&id) else { return };
        self.octets.clear();
        chunk.render(recording.layout, &mut self.octets);
        if let Err(error) = recording.write(silent_frames, &self.octets) {
            recording.error = describe(&recording.path, &error);
            if let Some(recording) = self.files.remove(&id) {
                let _sent = self.finish.send((id, recording));
            }
        }
    }
}

struct RecordingFile {
    path: PathBuf,
    file: Option<File>,
    layout: Layout,
    data_len: u64,
    chunks: u32,
    dropped_frames: u64,
    pauses_ms: Vec<(u64, u64)>,
    error: String,
}

impl RecordingFile {
    fn create(path: PathBuf, layout: Layout, create: &Create) -> Self {
        let (file, error) = match create(&path, layout) {
            Ok(file) => (Some(file), String::new()),
            Err(error) => (None, describe(&path, &error)),
        };
        Self {
            path,
            file,
            layout,
            data_len: 0,
            chunks: 0,
            dropped_frames: 0,
            pauses_ms: Vec::new(),
            error,
        }
    }

    fn write(&mut self, silent_frames: u32, chunk: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let silence = vec![self.layout.silence(); silent_frames as usize * self.layout.frame_len()];
        for octets in [&silence[..], chunk] {
            file.write_all(octets)?;
            self.data_len += octets.len() as u64;
        }
        self.chunks += 1;
        if self.chunks.is_multiple_of(HEADER_EVERY_CHUNKS) {
            self.patch_header()?;
        }
        Ok(())
    }

    fn patch_header(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_all_at(&self.layout.header(self.data_len), 0)
    }

    fn finish(mut self) -> RecordingSummary {
        let mut summary = RecordingSummary {
            channels: self.layout.channels,
            duration_ms: self.data_len / self.layout.frame_len() as u64 * u64::from(FRAME_MS),
            dropped_frames: self.dropped_frames,
            pauses_ms: std::mem::take(&mut self.pauses_ms),
            ..RecordingSummary::default()
        };
        if self.file.is_some() {
            match self.seal() {
                Ok((sha256, size_bytes)) => {
                    (summary.sha256, summary.size_bytes) = (sha256, size_bytes);
                }
                Err(error) if self.error.is_empty() => {
                    self.error = describe(&self.path, &error);
                }
                Err(_) => {}
            }
        }
        summary.path = self.path;
        summary.error = self.error;
        summary
    }

    /// Writes the final header and makes file and name durable, then hashes what is on disk.
    fn seal(&self) -> io::Result<(String, u64)> {
        self.patch_header()?;
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        hash(&self.path)
    }
}

fn create_file(path: &Path, layout: Layout) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(&layout.header(0))?;
    Ok(file)
}

fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size_bytes = 0;
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        hasher.update(&buffer[..len]);
        size_bytes += len as u64;
    }
    let hex = hasher.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
    Ok((hex, size_bytes))
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests;
