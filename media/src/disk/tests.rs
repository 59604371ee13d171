use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::codec::PCM_SAMPLES;
use crate::recorder::Side;
use crate::wav::{self, Form};

const MONO: Layout = Layout { form: Form::Pcm16, channels: 1 };
const STEREO: Layout = Layout { form: Form::Pcm16, channels: 2 };

fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cti-disk-{name}-{}", std::process::id()))
}

fn ended(events: &WakingQueue<Event>) -> RecordingSummary {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        poll(&mut [PollFd::new(events, PollFlags::IN)], None).unwrap();
        for event in events.drain() {
            if let Event::RecordingEnded(_, summary) = event {
                return *summary;
            }
        }
    }
    panic!("no recording ended");
}

/// A chunk of 20 ms.
fn frame(level: i16) -> Chunk {
    let mut chunk = Chunk::default();
    chunk.push(Side::Linear(&[level; PCM_SAMPLES]));
    chunk
}

fn finish(disk: Disk, threads: [JoinHandle<()>; 2]) {
    drop(disk);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_recording_is_complete_hashed_and_keeps_its_time() {
    let directory = directory("complete");
    let path = directory.join("new/one.wav");
    let events = WakingQueue::new().unwrap();
    let (disk, threads) = Disk::start(events.clone()).unwrap();
    disk.open(RecordingId(1), path.clone(), MONO);
    disk.write(RecordingId(1), 0, frame(1));
    disk.write(RecordingId(1), 2, frame(2));
    disk.close(RecordingId(1), 2, vec![(20, 40)]);
    let summary = ended(&events);
    let file = fs::read(&path).unwrap();
    assert_eq!(summary.error, "");
    assert_eq!((summary.duration_ms, summary.dropped_frames, summary.channels), (80, 2, 1));
    assert_eq!(summary.pauses_ms, [(20, 40)]);
    assert_eq!(summary.size_bytes, file.len() as u64);
    let expected: String = Sha256::digest(&file).iter().map(|o| format!("{o:02x}")).collect();
    assert_eq!(summary.sha256, expected);
    let samples = wav::samples(&file).unwrap();
    assert_eq!(samples.len(), 4 * MONO.frame_len());
    assert_eq!(samples[MONO.frame_len()..3 * MONO.frame_len()], vec![0; 2 * MONO.frame_len()]);
    finish(disk, threads);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn an_unfinished_file_is_playable_and_shutdown_finishes_it() {
    let directory = directory("unfinished");
    let path = directory.join("one.wav");
    let events = WakingQueue::new().unwrap();
    let mut recording = RecordingFile::create(path.clone(), STEREO, &create_file);
    for _ in 0..HEADER_EVERY_CHUNKS {
        recording.write(0, &[1; 6400]).unwrap();
    }
    // As after a crash: nothing closed the file.
    let header = fs::read(&path).unwrap();
    assert_eq!(header[40..44], (6400 * HEADER_EVERY_CHUNKS).to_le_bytes());
    let (disk, threads) = Disk::start(events.clone()).unwrap();
    disk.open(RecordingId(2), directory.join("two.wav"), STEREO);
    finish(disk, threads);
    assert_eq!(ended(&events).size_bytes, 44);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn errors_end_the_recording_at_once() {
    let directory = directory("errors");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("taken"), b"keep").unwrap();
    let events = WakingQueue::new().unwrap();
    let (disk, threads) = Disk::start(events.clone()).unwrap();
    disk.open(RecordingId(1), directory.join("taken"), MONO);
    let summary = ended(&events);
    assert!(summary.error.contains("taken"), "{}", summary.error);
    assert_eq!(fs::read(directory.join("taken")).unwrap(), b"keep");
    disk.open(RecordingId(2), directory.join("taken/below.wav"), MONO);
    assert!(!ended(&events).error.is_empty());
    // A full disk: the header fits in no octet of /dev/full.
    disk.open(RecordingId(3), PathBuf::from("/dev/full"), MONO);
    assert!(!ended(&events).error.is_empty());
    finish(disk, threads);
    fs::remove_dir_all(directory).unwrap();
}
