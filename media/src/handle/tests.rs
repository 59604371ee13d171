use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc;

use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::codec::Codec;
use crate::event::RecordingSummary;
use crate::rtp::Pt;
use crate::wav::Layout;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An engine whose disk does nothing until it is let, and then all that waited.
fn with_stuck_disk() -> (EngineHandle, mpsc::Sender<()>) {
    let (release, stuck) = mpsc::channel();
    let create = move |path: &Path, layout: Layout| {
        let _released = stuck.recv();
        let file = File::create_new(path)?;
        std::io::Write::write_all(&mut &file, &layout.header(0))?;
        Ok(file)
    };
    let range = PortRange { first: 48_000, last: 48_999, quarantine: Duration::ZERO };
    let shared = EngineHandle::share(range).unwrap();
    let disk = Disk::start_with(shared.events.clone(), 2, create).unwrap();
    (EngineHandle::start_with(shared, disk).unwrap(), release)
}

fn port(engine: &EngineHandle) -> PortId {
    let (port, number) = engine.open_port(LOCALHOST).unwrap();
    let connection = Connection::new(SocketAddr::new(LOCALHOST, number), Codec::Pcma, Pt(8));
    engine.connect(port, connection);
    port
}

fn ended(engine: &EngineHandle) -> RecordingSummary {
    loop {
        poll(&mut [PollFd::new(&engine.event_fd(), PollFlags::IN)], None).unwrap();
        for event in engine.drain_events() {
            if let Event::RecordingEnded(_, summary) = event {
                return *summary;
            }
        }
    }
}

#[test]
fn a_stuck_disk_costs_the_recording_frames_and_no_packet_its_time() {
    let path = std::env::temp_dir().join(format!("cti-stuck-{}.wav", std::process::id()));
    let (engine, release) = with_stuck_disk();
    let port = port(&engine);
    let recording = engine.start_recording(path.clone(), Form::ALaw, vec![port], Some(Vec::new()));
    let figures = engine.figures();
    // Two chunks wait; all others are dropped for as long as the disk is stuck.
    while figures.dropped_frames.get() < 50 {
        thread::sleep(Duration::from_millis(20));
    }
    let dropped = figures.dropped_frames.get();
    assert!(figures.packets_sent.get() >= dropped, "packets leave all the while");
    release.send(()).unwrap();
    engine.send(Command::StopRecording(recording));
    let summary = ended(&engine);
    assert_eq!(summary.error, "");
    assert!(summary.dropped_frames >= dropped);
    // What was dropped is silence: the file keeps the clock's time.
    assert!(summary.duration_ms >= (summary.dropped_frames + 50) * 20);
    assert_eq!(summary.size_bytes, 58 + summary.duration_ms * 16);
    engine.shutdown();
    std::fs::remove_file(path).unwrap();
}
