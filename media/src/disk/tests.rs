use std::fs;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use sha2::{Digest, Sha256};

use super::*;
use crate::codec::PCM_SAMPLES;
use crate::event::RecordingSummary;
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
    let mut recording = RecordingFile::create(path.clone(), MONO, &create_file);
    let mut octets = Vec::new();
    let mut said = Vec::new();
    for level in 1..200 {
        recording.write(0, &frame(level), &mut octets);
        said.extend([level.to_le_bytes(); PCM_SAMPLES].concat());
        // A disk that does not keep up has its headers told by the next chunk.
        let untold = if level < 100 { 0 } else { 320 };
        if level < 100 {
            recording.tell_length();
        }
        // As after a crash: nothing closed the file. What is missing is less than a page.
        let file = fs::read(&path).unwrap();
        let samples = wav::samples(&file).unwrap();
        assert_eq!(samples, &said[..samples.len()]);
        let missing = said.len() - samples.len();
        assert!(missing < 4096 + untold, "{missing} of {}", said.len());
        let length = u32::from_le_bytes(file[40..44].try_into().unwrap());
        assert!(length as usize <= file.len() - 44);
    }
    let events = WakingQueue::new().unwrap();
    let (disk, threads) = Disk::start(events.clone()).unwrap();
    disk.open(RecordingId(2), directory.join("two.wav"), STEREO);
    finish(disk, threads);
    assert_eq!(ended(&events).size_bytes, 44);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn recordings_that_end_together_are_each_told_what_became_of_them() {
    let directory = directory("together");
    let recordings: Vec<_> = (0..3)
        .map(|index: i16| {
            let path = directory.join(format!("{}/{index}.wav", index / 2));
            let mut recording = RecordingFile::create(path, MONO, &create_file);
            recording.write(0, &frame(index), &mut Vec::new());
            (RecordingId(index as u64), recording)
        })
        .collect();
    // Its name cannot be made durable any more.
    fs::rename(directory.join("1"), directory.join("moved")).unwrap();
    let ended = Finisher::default().finish(recordings.into_iter());
    for (id, summary) in &ended {
        let path = directory.join(format!("{}/{}.wav", id.0 / 2, id.0));
        assert_eq!((summary.path.clone(), summary.duration_ms), (path.clone(), 20));
        let moved = directory.join(format!("moved/{}.wav", id.0));
        let file = fs::read(if id.0 == 2 { moved } else { path }).unwrap();
        let expected: String = Sha256::digest(&file).iter().map(|o| format!("{o:02x}")).collect();
        assert_eq!((&summary.sha256, summary.size_bytes), (&expected, 44 + 320));
    }
    let failed: Vec<_> = ended.iter().map(|(_, summary)| !summary.error.is_empty()).collect();
    assert_eq!(failed, [false, false, true]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn silence_of_minutes_is_written_in_its_place() {
    let directory = directory("silence");
    let path = directory.join("one.wav");
    let events = WakingQueue::new().unwrap();
    let (disk, threads) = Disk::start(events.clone()).unwrap();
    let a_law = Layout { form: Form::ALaw, channels: 1 };
    disk.open(RecordingId(1), path.clone(), a_law);
    disk.write(RecordingId(1), 0, frame(8000));
    disk.write(RecordingId(1), 6001, frame(8000));
    disk.close(RecordingId(1), 6001, Vec::new());
    let summary = ended(&events);
    assert_eq!((summary.error.as_str(), summary.duration_ms), ("", 6003 * 20));
    let file = fs::read(&path).unwrap();
    let (said, silence) = file[58..].split_at(160);
    let (silence, again) = silence.split_at(6001 * 160);
    assert_eq!((said, silence.iter().all(|octet| *octet == 0xd5)), (again, true));
    finish(disk, threads);
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
