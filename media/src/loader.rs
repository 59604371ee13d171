//! The loader thread: reads prompts, encodes them once per law and keeps them in memory; and learns
//! the sounds that are listened for.
//!
//! What codecs other than G.711 play is kept linear: their encoders have a state, which belongs to
//! the port.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use crossbeam_channel::{Sender, unbounded};

use crate::codec::Codec;
use crate::event::{Command, PlayId, PortId, RecognitionId, WakingQueue};
use crate::g711::Law;
use crate::player::Clips;
use crate::reactor::faults::caught;
use crate::recognition::Reference;
use crate::tone::Tone;
use crate::wav;

/// Encoded audio kept, about two and a quarter hours.
const CACHE_LIMIT_BYTES: usize = 64 << 20;

/// What is told of a panic.
const DEFECT: &str = "a defect of the engine";

/// Sounds that were listened for and are kept all the same, a few hundred KiB each at most.
const MOST_REFERENCES: usize = 256;

/// A longer file is no prompt; over an hour of PCM16.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What a port needs.
#[derive(Debug)]
pub enum Request {
    /// Audio for a play, as a port of this codec plays it.
    Play(PortId, PlayId, Codec, Source),
    /// What files sound like.
    Recognise(PortId, RecognitionId, Vec<PathBuf>),
}

/// Where audio comes from.
#[derive(Debug)]
pub enum Source {
    /// Files in order.
    Files(Vec<PathBuf>),
    /// A tone made here.
    Tone(Tone),
}

/// Starts the thread; it answers with `Command::Loaded` and `Command::Learnt`, and ends when the
/// sender is dropped.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(answers: WakingQueue<Command>) -> io::Result<(Sender<Request>, JoinHandle<()>)> {
    let (requests, queue) = unbounded::<Request>();
    let thread = thread::Builder::new().name("media-load".into()).spawn(move || {
        let mut cache = Cache::new(CACHE_LIMIT_BYTES);
        for request in queue {
            // No file may end the thread: nothing would be heard of any other.
            answers.push(match request {
                Request::Play(port, play, codec, what) => {
                    let clips = caught(|| match &what {
                        Source::Files(paths) => cache.clips(paths, codec),
                        Source::Tone(tone) => Ok(cache.tone(*tone, codec)),
                    });
                    Command::Loaded(port, play, clips.unwrap_or_else(|| Err(DEFECT.into())))
                }
                Request::Recognise(port, recognition, paths) => {
                    let sounds = caught(|| cache.references(&paths));
                    Command::Learnt(port, recognition, sounds.unwrap_or_else(|| Err(DEFECT.into())))
                }
            });
        }
    })?;
    Ok((requests, thread))
}

/// One file in one form.
#[derive(Clone, Debug)]
enum Clip {
    Law(Arc<[u8]>),
    Linear(Arc<[i16]>),
}

impl Clip {
    fn of(law: Option<Law>, samples: impl Iterator<Item = i16>) -> Self {
        match law {
            Some(law) => Self::Law(samples.map(|sample| law.encode(sample)).collect()),
            None => Self::Linear(samples.collect()),
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Law(octets) => octets.len(),
            Self::Linear(samples) => size_of_val(&samples[..]),
        }
    }
}

/// Clips in memory, the least recently used ones dropped beyond a limit.
#[derive(Debug)]
pub struct Cache {
    clips: HashMap<(PathBuf, Option<Law>), Entry>,
    /// Those that nobody listens for go when another one comes.
    references: HashMap<PathBuf, (Version, Arc<Reference>)>,
    /// All tones together are less than a minute: they stay.
    tones: HashMap<(Tone, Option<Law>), Clip>,
    limit_bytes: usize,
    used_bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    clip: Clip,
    version: Version,
    last_use: u64,
}

/// A file that was replaced has another time or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    size_bytes: u64,
}

impl Version {
    fn of(path: &Path) -> Result<Self, String> {
        let meta = fs::metadata(path).map_err(|error| describe(path, &error))?;
        if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
            return Err(describe(path, &"not a file, or too long to play"));
        }
        let modified = meta.modified().map_err(|error| describe(path, &error))?;
        Ok(Self { modified, size_bytes: meta.len() })
    }
}

fn describe(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// The samples of a file.
fn read(path: &Path) -> Result<Vec<i16>, String> {
    let file = fs::read(path).map_err(|error| describe(path, &error))?;
    let octets = wav::samples(&file).map_err(|error| describe(path, &error))?;
    Ok(octets.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            clips: HashMap::new(),
            references: HashMap::new(),
            tones: HashMap::new(),
            limit_bytes,
            used_bytes: 0,
            uses: 0,
        }
    }

    /// The clips of some files in the form in which a port of `codec` plays them.
    ///
    /// # Errors
    /// Words naming the file and why it cannot be played.
    pub fn clips(&mut self, paths: &[PathBuf], codec: Codec) -> Result<Clips, String> {
        let mut octets = Vec::new();
        let mut samples = Vec::new();
        for path in paths {
            match self.clip(path, codec.law())? {
                Clip::Law(clip) => octets.push(clip),
                Clip::Linear(clip) => samples.push(clip),
            }
        }
        Ok(match codec.law() {
            Some(law) => Clips::Law(law, octets),
            None => Clips::Linear(samples),
        })
    }

    /// What files sound like, learnt once.
    ///
    /// # Errors
    /// Words naming the file and why it cannot be listened for.
    pub fn references(&mut self, paths: &[PathBuf]) -> Result<Vec<Arc<Reference>>, String> {
        paths.iter().map(|path| self.reference(path)).collect()
    }

    fn reference(&mut self, path: &Path) -> Result<Arc<Reference>, String> {
        let version = Version::of(path)?;
        if let Some((known, reference)) = self.references.get(path)
            && *known == version
        {
            return Ok(Arc::clone(reference));
        }
        let samples = read(path)?;
        let reference = Reference::of(&samples).ok_or_else(|| {
            describe(path, &"too little in it to be recognised: not a second that changes")
        })?;
        let reference = Arc::new(reference);
        if self.references.len() >= MOST_REFERENCES {
            self.references.retain(|_, (_, reference)| Arc::strong_count(reference) > 1);
        }
        self.references.insert(path.to_path_buf(), (version, Arc::clone(&reference)));
        Ok(reference)
    }

    /// One period of a tone in the form in which a port of `codec` plays it.
    pub fn tone(&mut self, tone: Tone, codec: Codec) -> Clips {
        let law = codec.law();
        let clip = self
            .tones
            .entry((tone, law))
            .or_insert_with(|| Clip::of(law, tone.period().into_iter()));
        match (clip.clone(), law) {
            (Clip::Law(octets), Some(law)) => Clips::Law(law, vec![octets]),
            (Clip::Law(_), None) => Clips::Linear(Vec::new()),
            (Clip::Linear(samples), _) => Clips::Linear(vec![samples]),
        }
    }

    /// The clip of a file, from memory when the file has not changed.
    fn clip(&mut self, path: &Path, law: Option<Law>) -> Result<Clip, String> {
        let version = Version::of(path)?;
        self.uses += 1;
        let key = (path.to_path_buf(), law);
        if let Some(entry) = self.clips.get_mut(&key)
            && entry.version == version
        {
            entry.last_use = self.uses;
            return Ok(entry.clip.clone());
        }
        let samples = read(path)?;
        let clip = Clip::of(law, samples.into_iter());
        self.insert(key, Entry { clip: clip.clone(), version, last_use: self.uses });
        Ok(clip)
    }

    fn insert(&mut self, key: (PathBuf, Option<Law>), entry: Entry) {
        self.used_bytes += entry.clip.size_bytes();
        if let Some(former) = self.clips.insert(key, entry) {
            self.used_bytes -= former.clip.size_bytes();
        }
        while self.used_bytes > self.limit_bytes && self.clips.len() > 1 {
            let oldest = self.clips.iter().min_by_key(|(_, entry)| entry.last_use);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            if let Some(dropped) = self.clips.remove(&key) {
                self.used_bytes -= dropped.clip.size_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("cti-loader-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn write(path: &Path, samples: &[i16]) {
        let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let file = [&wav::header(1, data.len() as u64)[..], &data].concat();
        fs::write(path, file).unwrap();
    }

    /// The only clip of a play.
    fn octets(cache: &mut Cache, path: &Path, codec: Codec) -> Result<Arc<[u8]>, String> {
        match cache.clips(&[path.to_path_buf()], codec)? {
            Clips::Law(_, clips) => Ok(Arc::clone(&clips[0])),
            Clips::Linear(_) => Err("linear".into()),
        }
    }

    #[test]
    fn a_clip_is_shared_until_its_file_changes() {
        let directory = directory("share");
        let path = directory.join("prompt.wav");
        write(&path, &[0, 9000]);
        let mut cache = Cache::new(1000);
        let first = octets(&mut cache, &path, Codec::Pcma).unwrap();
        assert_eq!(*first, [Law::A.encode(0), Law::A.encode(9000)]);
        assert!(Arc::ptr_eq(&first, &octets(&mut cache, &path, Codec::Pcma).unwrap()));
        assert_eq!(octets(&mut cache, &path, Codec::Pcmu).unwrap()[0], Law::Mu.encode(0));
        write(&path, &[1, 2, 3]);
        assert_eq!(octets(&mut cache, &path, Codec::Pcma).unwrap().len(), 3);
        assert_eq!(cache.used_bytes, 5);
        let linear = cache.clips(&[path], Codec::G722).unwrap();
        assert_eq!(linear, Clips::Linear(vec![vec![1, 2, 3].into()]));
        assert_eq!(cache.used_bytes, 11);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_least_recently_used_clip_is_dropped() {
        let directory = directory("drop");
        let paths: Vec<_> = (0..3).map(|index| directory.join(format!("{index}.wav"))).collect();
        let mut cache = Cache::new(250);
        for path in &paths {
            write(path, &[0; 100]);
        }
        octets(&mut cache, &paths[0], Codec::Pcma).unwrap();
        octets(&mut cache, &paths[1], Codec::Pcma).unwrap();
        octets(&mut cache, &paths[0], Codec::Pcma).unwrap();
        octets(&mut cache, &paths[2], Codec::Pcma).unwrap();
        assert_eq!(cache.used_bytes, 200);
        assert!(!cache.clips.contains_key(&(paths[1].clone(), Some(Law::A))));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_tone_is_made_once_for_each_law() {
        let mut cache = Cache::new(0);
        let Clips::Law(Law::A, first) = cache.tone(Tone::Busy, Codec::Pcma) else { panic!() };
        assert_eq!(first[0].len(), 700 * 8);
        let Clips::Law(_, again) = cache.tone(Tone::Busy, Codec::Pcma) else { panic!() };
        assert!(Arc::ptr_eq(&first[0], &again[0]));
        assert_eq!(
            cache.tone(Tone::Busy, Codec::G722),
            Clips::Linear(vec![Tone::Busy.period().into()])
        );
    }

    #[test]
    fn errors_name_the_file() {
        let directory = directory("errors");
        let path = directory.join("absent.wav");
        let error = octets(&mut Cache::new(1), &path, Codec::Pcma).unwrap_err();
        assert!(error.contains("absent.wav"), "{error}");
        fs::write(&path, b"no audio").unwrap();
        let error = octets(&mut Cache::new(1), &path, Codec::Pcma).unwrap_err();
        assert!(error.ends_with("not a WAV file"), "{error}");
        assert!(octets(&mut Cache::new(1), &directory, Codec::Pcma).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
