//! Measures what recorded calls that come and go cost the engine, thread by thread.
//!
//! `cargo run --release --no-default-features --example come_and_go -- RATE SECONDS [TALK_MS]`
//!
//! RATE calls a second begin: two ports each, connected, bridged and recorded for TALK_MS (2,000),
//! then closed, as a queue call is. A second engine in this process plays the far ends and is not
//! counted. Under `strace -f -c` it tells the system calls. Files are in the temporary directory,
//! packets on 127.0.0.1.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use _media::clock::{self, Now};
use _media::codec::Codec;
use _media::event::{Command, Connection, Event, PortId, RecordingId, Rtcp};
use _media::handle::{EngineHandle, PortRange};
use _media::rtp::Pt;
use _media::tone::Tone;
use _media::wav::Form;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MAX_RATE: u32 = 500;
const MAX_SECONDS: u32 = 60;
const MAX_TALK_MS: u64 = 60_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A call in progress.
struct Call {
    until: Now,
    near: [PortId; 2],
    far: [PortId; 2],
    recording: RecordingId,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rate, seconds, rest @ ..] = &arguments[..] else {
        return Err("usage: come_and_go RATE SECONDS [TALK_MS]".into());
    };
    let rate = rate.parse::<u32>()?.clamp(1, MAX_RATE);
    let calls = rate * seconds.parse::<u32>()?.clamp(1, MAX_SECONDS);
    let talk_ms = rest.first().map_or(Ok(2000), |talk| talk.parse::<u64>())?.min(MAX_TALK_MS);
    let directory = std::env::temp_dir().join(format!("come-and-go-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let measured = measure(calls, rate, Duration::from_millis(talk_ms), &directory);
    fs::remove_dir_all(&directory)?;
    measured
}

fn measure(calls: u32, rate: u32, talk: Duration, directory: &Path) -> Result<()> {
    let near = start(10_000)?;
    let engine_threads = threads()?;
    let far = start(30_000)?;
    let started = clock::now();
    let (opening, ended) = thread::scope(|scope| -> Result<_> {
        let listener = scope.spawn(|| Ended::listen(&near, calls));
        let opening = call_all(&near, &far, (calls, rate, talk), directory)?;
        Ok((opening, listener.join().map_err(|_| "the listener panicked")?))
    })?;
    let wall = clock::now().saturating_sub(started);
    println!("{calls} calls of {talk:?} begun {rate} a second, {wall:.1?}");
    println!("  ended: {ended:?}");
    report(&engine_threads, calls, opening)?;
    far.shutdown();
    near.shutdown();
    Ok(())
}

/// Lets so many calls begin at a rate and talk for a time; returns the CPU time of this thread for
/// the engine that is measured.
fn call_all(
    near: &EngineHandle,
    far: &EngineHandle,
    (calls, rate, talk): (u32, u32, Duration),
    directory: &Path,
) -> Result<Duration> {
    let started = clock::now();
    let mut opening = Duration::ZERO;
    let mut present = VecDeque::new();
    for index in 0..calls {
        clock::sleep_until(started + Duration::from_secs(1) * index / rate);
        while present.front().is_some_and(|call: &Call| call.until <= clock::now()) {
            if let Some(call) = present.pop_front() {
                end(near, far, &call);
            }
        }
        let path = directory.join(format!("{index}.wav"));
        let (call, cpu) = begin(near, far, path, clock::now() + talk)?;
        opening += cpu;
        present.push_back(call);
        let _unneeded = far.drain_events();
    }
    for call in present {
        clock::sleep_until(call.until);
        end(near, far, &call);
    }
    Ok(opening)
}

fn start(first: u16) -> Result<EngineHandle> {
    let range = PortRange { first, last: first + 19_999, quarantine: Duration::from_secs(2) };
    Ok(EngineHandle::start(range)?)
}

/// Begins a call; returns it and the CPU time of this thread for the engine that is measured.
fn begin(
    near: &EngineHandle,
    far: &EngineHandle,
    path: PathBuf,
    until: Now,
) -> Result<(Call, Duration)> {
    let open = |engine: &EngineHandle| -> Result<[(PortId, u16); 2]> {
        let port = || engine.open_port(LOCALHOST).map_err(|error| format!("{error:?}"));
        Ok([port()?, port()?])
    };
    let fars = open(far)?;
    let before = clock::thread_cpu();
    let nears = open(near)?;
    for ((port, _), (_, number)) in nears.iter().zip(&fars) {
        near.connect(*port, connection(*number));
    }
    let [one, other] = nears.map(|(port, _)| port);
    near.send(Command::SetRoutes(vec![(one, vec![other]), (other, vec![one])]));
    let recording = near.start_recording(path, Form::Pcm16, vec![one], Some(vec![other]));
    let cpu = clock::thread_cpu().saturating_sub(before);
    for ((port, _), (_, number)) in fars.iter().zip(&nears) {
        far.connect(*port, connection(*number));
        far.play_tone(*port, Tone::Ringback, true);
    }
    let far = fars.map(|(port, _)| port);
    Ok((Call { until, near: [one, other], far, recording }, cpu))
}

fn end(near: &EngineHandle, far: &EngineHandle, call: &Call) {
    near.send(Command::StopRecording(call.recording));
    for port in call.near {
        near.send(Command::Close(port));
    }
    for port in call.far {
        far.send(Command::Close(port));
    }
}

fn connection(far_number: u16) -> Connection {
    let remote = SocketAddr::new(LOCALHOST, far_number);
    Connection { rtcp: Rtcp::Port(far_number + 1), ..Connection::new(remote, Codec::Pcma, Pt(8)) }
}

/// What has ended so far.
#[derive(Debug, Default)]
struct Ended {
    /// How often the application was woken for events.
    wake_ups: u32,
    ports: u32,
    recordings: u32,
    failed: u32,
    dropped_frames: u64,
    recorded_ms: u64,
    sent: u64,
    received: u64,
}

impl Ended {
    /// Listens until so many calls have ended, or nothing more is told for ten seconds.
    fn listen(engine: &EngineHandle, calls: u32) -> Self {
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        let events = engine.event_fd();
        let mut ended = Self::default();
        while ended.recordings < calls || ended.ports < 2 * calls {
            let mut polled = [PollFd::new(&events, PollFlags::IN)];
            if !poll(&mut polled, Some(&patience)).is_ok_and(|ready| ready > 0) {
                break;
            }
            ended.wake_ups += 1;
            ended.take(engine);
        }
        ended
    }

    fn take(&mut self, engine: &EngineHandle) {
        for event in engine.drain_events() {
            match event {
                Event::RecordingEnded(_, summary) => {
                    self.recordings += 1;
                    self.failed += u32::from(!summary.error.is_empty());
                    self.dropped_frames += summary.dropped_frames;
                    self.recorded_ms += summary.duration_ms;
                }
                Event::PortClosed(_, figures) => {
                    self.ports += 1;
                    self.sent += figures.packets_sent;
                    self.received += figures.packets_received;
                }
                _ => {}
            }
        }
    }
}

/// This process's threads.
fn threads() -> Result<Vec<PathBuf>> {
    let threads = fs::read_dir("/proc/self/task")?.map(|thread| Ok(thread?.path()));
    threads.collect()
}

/// Prints the CPU time of the engine's threads a call, proc_pid_schedstat; `opening` is that of the
/// calling thread.
fn report(threads: &[PathBuf], calls: u32, opening: Duration) -> Result<()> {
    let own = std::process::id().to_string();
    let mut parts = vec![("commands".to_owned(), opening.as_secs_f64() * 1000.0)];
    for thread in threads.iter().filter(|thread| !thread.ends_with(&own)) {
        let name = fs::read_to_string(thread.join("comm"))?.trim().to_owned();
        let stat = fs::read_to_string(thread.join("schedstat"))?;
        let ns: f64 = stat.split_whitespace().next().ok_or("no time")?.parse()?;
        parts.push((name, ns / 1e6));
    }
    parts.sort_by(|one, other| other.1.total_cmp(&one.1));
    let total: f64 = parts.iter().map(|(_, ms)| ms).sum();
    println!("  CPU: {:.3} ms a call", total / f64::from(calls));
    for (name, ms) in parts {
        println!("    {name:<14} {:.3} ms", ms / f64::from(calls));
    }
    Ok(())
}
