//! The file of a recording: written in whole pages while it goes on, then made durable and hashed.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::event::{RecordingId, RecordingSummary};
use crate::g711::FRAME_MS;
use crate::recorder::{CHUNK_FRAMES, Chunk};
use crate::wav::Layout;

/// Recordings hold personal data: no other user may read them.
const FILE_MODE: u32 = 0o640;

/// What is written ends with a page, so that the kernel need not fill up and copy parts of one.
const PAGE_LEN: u64 = 4096;

/// Recordings that are made durable together, one after the other.
const MAX_BATCH: usize = 64;

/// Octets read at a time to be hashed.
const HASHED_AT_ONCE: usize = 1 << 16;

/// Creates a file with its header, to be written and read.
pub type Create = dyn Fn(&Path, Layout) -> io::Result<File> + Send;

pub fn create_file(path: &Path, layout: Layout) -> io::Result<File> {
    let create = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
    };
    // The directory is there but for the first recording of a day.
    let mut file = match (create(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            create()?
        }
        (created, _) => created?,
    };
    file.write_all(&layout.header(0))?;
    Ok(file)
}

/// A recording in progress.
pub struct RecordingFile {
    path: PathBuf,
    file: Option<File>,
    layout: Layout,
    /// Octets of audio that are in the file.
    written: u64,
    /// Those that follow, less than a page.
    rest: Vec<u8>,
    /// What the header tells of it.
    told: u64,
    pub dropped_frames: u64,
    pub pauses_ms: Vec<(u64, u64)>,
    error: String,
}

impl RecordingFile {
    /// A failure is kept to be told at the end.
    pub fn create(path: PathBuf, layout: Layout, create: &Create) -> Self {
        let (file, error) = match create(&path, layout) {
            Ok(file) => (Some(file), String::new()),
            Err(error) => (None, describe(&path, &error)),
        };
        Self {
            path,
            file,
            layout,
            written: 0,
            rest: Vec::new(),
            told: 0,
            dropped_frames: 0,
            pauses_ms: Vec::new(),
            error,
        }
    }

    /// Whether nothing more can be written.
    pub fn has_failed(&self) -> bool {
        !self.error.is_empty()
    }

    /// Adds silence, then a chunk; `octets` is room for it. The header follows with `tell_length`, at
    /// the latest with the next chunk.
    pub fn write(&mut self, silent_frames: u32, chunk: &Chunk, octets: &mut Vec<u8>) {
        let is_untold = self.told != self.written;
        let mut silent_frames = silent_frames as usize;
        let written = loop {
            octets.clear();
            octets.append(&mut self.rest);
            // Silence of hours would be too much at once.
            let silent_now = silent_frames.min(CHUNK_FRAMES as usize);
            silent_frames -= silent_now;
            let silence = silent_now * self.layout.frame_len();
            octets.resize(octets.len() + silence, self.layout.silence());
            if silent_frames == 0 {
                chunk.render(self.layout, octets);
                break self.write_pages(octets);
            }
            if let Err(error) = self.write_pages(octets) {
                break Err(error);
            }
        };
        self.note(written);
        if is_untold {
            self.tell_length();
        }
    }

    /// Tells in the header what is in the file.
    pub fn tell_length(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.told != self.written) {
            let patched = file.write_all_at(&self.layout.header(self.written), 0);
            self.told = self.written;
            self.note(patched);
        }
    }

    /// Writes what fills pages of the file and keeps the rest.
    fn write_pages(&mut self, octets: &[u8]) -> io::Result<()> {
        let header_len = self.layout.header(0).len() as u64;
        let beyond = (header_len + self.written + octets.len() as u64) % PAGE_LEN;
        let (pages, rest) = octets.split_at(octets.len().saturating_sub(beyond as usize));
        self.append(pages)?;
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some(file) = self.file.as_mut().filter(|_| !octets.is_empty()) {
            file.write_all(octets)?;
            self.written += octets.len() as u64;
        }
        Ok(())
    }

    /// Keeps the first failure.
    fn note<T>(&mut self, result: io::Result<T>) -> Option<T> {
        let path = self.path.as_path();
        let result = result.map_err(|error| describe(path, &error));
        result.map_err(|error| self.fail(error)).ok()
    }

    fn fail(&mut self, error: String) {
        if self.error.is_empty() {
            self.error = error;
        }
    }

    /// Writes what is left and the final header, and makes the file durable.
    fn seal(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        let appended = self.append(&rest);
        self.note(appended);
        self.tell_length();
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_all);
        self.note(synced);
    }

    /// Hashes what is in the file.
    fn hash(&self, room: &mut [u8]) -> io::Result<(String, u64)> {
        let Some(file) = &self.file else { return Ok(Default::default()) };
        let mut hasher = Sha256::new();
        let mut size_bytes = 0;
        loop {
            let len = file.read_at(room, size_bytes)?;
            if len == 0 {
                break;
            }
            hasher.update(&room[..len]);
            size_bytes += len as u64;
        }
        let hex = hasher.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
        Ok((hex, size_bytes))
    }

    fn summary(mut self, room: &mut [u8]) -> RecordingSummary {
        let hashed = self.hash(room);
        let (sha256, size_bytes) = self.note(hashed).unwrap_or_default();
        RecordingSummary {
            path: self.path,
            sha256,
            size_bytes,
            duration_ms: self.written / self.layout.frame_len() as u64 * u64::from(FRAME_MS),
            channels: self.layout.channels,
            dropped_frames: self.dropped_frames,
            pauses_ms: self.pauses_ms,
            error: self.error,
        }
    }
}

/// Ends recordings.
pub struct Finisher {
    room: Vec<u8>,
}

impl Default for Finisher {
    fn default() -> Self {
        Self { room: vec![0; HASHED_AT_ONCE] }
    }
}

impl Finisher {
    /// Makes some of these durable, files and names, and says what they are. A directory that holds
    /// several of them is synced once.
    pub fn finish(
        &mut self,
        recordings: impl Iterator<Item = (RecordingId, RecordingFile)>,
    ) -> Vec<(RecordingId, RecordingSummary)> {
        let mut batch: Vec<_> = recordings.take(MAX_BATCH).collect();
        let mut directories = HashMap::new();
        for (_, recording) in &mut batch {
            recording.seal();
        }
        for (_, recording) in batch.iter_mut().filter(|(_, recording)| recording.file.is_some()) {
            let Some(parent) = recording.path.parent() else { continue };
            let synced = match directories.get(parent) {
                Some(synced) => synced,
                None => directories.entry(parent.to_path_buf()).or_insert(sync_directory(parent)),
            };
            if let Err(error) = synced {
                recording.fail(error.clone());
            }
        }
        let summaries = batch.into_iter();
        summaries.map(|(id, recording)| (id, recording.summary(&mut self.room))).collect()
    }
}

fn sync_directory(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| describe(path, &error))
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
