//! Measures pacing, CPU and memory of the engine under load, beside bare system calls.
//!
//! `cargo run --release --no-default-features --example rtp_load -- PORTS SECONDS [MODE]`
//!
//! One engine serves PORTS calls, and a thread plays their far ends as cheaply as it can be done;
//! both send and receive 50 packets a second and port. The modes are `ivr` (a looped prompt to each
//! call), `ivr-recorded` (and every call is recorded), `bridged` (the calls talk in pairs) and
//! `recorded` (and every pair is recorded); the name of an SRTP suite, such as `AEAD_AES_128_GCM`,
//! is `ivr` protected by it, with a second engine as far end.
//! Bare system calls on sockets laid out alike are measured every second of the run, so that both
//! meet the same noise, and the time that a hypervisor gave to other machines is told. Everything
//! stays on 127.0.0.1 and 127.0.0.2.

use std::error::Error;
use std::fs::{self, DirEntry};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use _media::clock;
use _media::codec::Codec;
use _media::event::{Command, Connection, Detect, PortId, Rtcp};
use _media::handle::{EngineHandle, PortRange};
use _media::rtp::Pt;
use _media::secure::Security;
use _media::secure::dtls::Keys;
use _media::secure::srtp::{MasterKey, Suite};
use _media::wav::{self, Form};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod bare;
mod peers;
mod wire;

use bare::BareCalls;
use peers::{Peers, Seen, Talk};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Streams are taken for calm after up to three seconds.
const SETTLE: Duration = Duration::from_secs(5);
const FIRST_FAR_PORT: u16 = 30_000;
const SECOND: Duration = Duration::from_secs(1);
const MAX_PORTS: u16 = 8000;
const MAX_SECONDS: u64 = 60;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the calls do.
#[derive(Clone, Copy)]
struct Mode {
    bridged: bool,
    recorded: bool,
    suite: Option<Suite>,
}

impl Mode {
    fn named(name: &str) -> Option<Self> {
        let plain = Self { bridged: false, recorded: false, suite: None };
        match name {
            "ivr" => Some(plain),
            "ivr-recorded" => Some(Self { recorded: true, ..plain }),
            "bridged" => Some(Self { bridged: true, ..plain }),
            "recorded" => Some(Self { bridged: true, recorded: true, ..plain }),
            suite => Suite::of_name(suite).map(|suite| Self { suite: Some(suite), ..plain }),
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ports, seconds, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: rtp_load PORTS SECONDS [ivr|ivr-recorded|bridged|recorded|SUITE]".into()
        );
    };
    let ports = ports.parse::<u16>()?.min(MAX_PORTS);
    let seconds = seconds.parse::<u64>()?.clamp(1, MAX_SECONDS);
    let mode = rest.first().map_or("ivr", String::as_str);
    let mode = Mode::named(mode).ok_or("unknown mode")?;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;

    let directory = std::env::temp_dir().join(format!("rtp-load-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let measured = measure(ports, seconds, mode, &directory);
    fs::remove_dir_all(&directory)?;
    measured
}

fn measure(ports: u16, seconds: u64, mode: Mode, directory: &Path) -> Result<()> {
    let prompt = write_prompt(&directory.join("prompt.wav"))?;
    let mut far = FarEnds::open(ports, mode.suite.is_some())?;
    let mut bare = BareCalls::open(ports.into(), far.sharers())?;
    let engine = start(10_000)?;
    let before_kib = resident_kib()?;
    let near = open(&engine, ports)?;
    for (call, (port, _)) in near.iter().enumerate() {
        engine.connect(*port, connection(far.number(call), mode.suite));
        if !mode.bridged {
            engine.play(*port, vec![prompt.clone()], true);
        }
    }
    route(&engine, &near, mode, directory);
    let settled = clock::now() + SETTLE;
    let numbers = near.iter().map(|(_, number)| *number).collect();
    far.start(numbers, mode, &prompt, settled);
    clock::sleep_until(settled);
    let before = figures(&engine);
    let (stolen_before, waited_before) = (stolen()?, waited()?);
    let mut bare_us = Vec::new();
    for second in 1..=seconds {
        bare_us.push(bare.packet_us()?);
        clock::sleep_until(settled + SECOND * second as u32);
    }
    let after = figures(&engine);
    let seen = far.stop()?;
    bare_us.sort_by(f64::total_cmp);
    let stolen_ticks = stolen()?.saturating_sub(stolen_before);
    report(&before, &after, ports, seconds, bare_us[bare_us.len() / 2]);
    println!(
        "  the thread waited {:.0} ms for a core in all, and gave up its priority {} times",
        waited()?.saturating_sub(waited_before).as_secs_f64() * 1000.0,
        after.iter().find(|(name, _)| *name == "priority_yields").map_or(0, |(_, times)| *times)
    );
    report_seen(&seen, seconds);
    println!(
        "  stolen by the hypervisor: {:.0} % of a core",
        stolen_ticks as f64 / (seconds * rustix::param::clock_ticks_per_second()) as f64 * 100.0
    );
    let grown_kib = resident_kib()?.saturating_sub(before_kib);
    println!(
        "  memory: {:.1} KiB a call, its far end included",
        grown_kib as f64 / f64::from(ports)
    );
    engine.shutdown();
    Ok(())
}

/// Who the calls talk to.
enum FarEnds {
    Open(Peers),
    Talking(Talk),
    /// An engine, since the others speak no SRTP.
    Engine(EngineHandle, Vec<(PortId, u16)>),
}

impl FarEnds {
    fn open(ports: u16, is_secure: bool) -> Result<Self> {
        if !is_secure {
            return Ok(Self::Open(Peers::open(ports.into(), FIRST_FAR_PORT)?));
        }
        let engine = start(FIRST_FAR_PORT)?;
        let ports = open(&engine, ports)?;
        Ok(Self::Engine(engine, ports))
    }

    /// Calls on a socket.
    fn sharers(&self) -> usize {
        if let Self::Open(peers) = self { peers.sharers() } else { 1 }
    }

    fn number(&self, call: usize) -> u16 {
        match self {
            Self::Open(peers) => peers.number(call),
            Self::Engine(_, ports) => ports[call].1,
            Self::Talking(_) => 0,
        }
    }

    fn start(&mut self, numbers: Vec<u16>, mode: Mode, prompt: &Path, judged_from: clock::Now) {
        match self {
            Self::Open(peers) => {
                *self = Self::Talking(std::mem::take(peers).start(numbers, judged_from));
            }
            Self::Engine(engine, ports) => {
                for ((port, _), number) in ports.iter().zip(numbers) {
                    engine.connect(*port, connection(number, mode.suite));
                    engine.play(*port, vec![prompt.to_path_buf()], true);
                }
            }
            Self::Talking(_) => {}
        }
    }

    /// Ends them; an engine tells nothing of what it has seen.
    fn stop(self) -> Result<Seen> {
        match self {
            Self::Talking(talk) => Ok(talk.stop()?),
            Self::Engine(engine, _) => {
                engine.shutdown();
                Ok(Seen::default())
            }
            Self::Open(_) => Ok(Seen::default()),
        }
    }
}

fn report_seen(seen: &Seen, seconds: u64) {
    if seen.sent == 0 {
        return;
    }
    println!(
        "  seen by the far ends: {} received, {} lost; of {} with the kernel's time {:.2} % within \
         5 ms of their call's earliest; their thread took {:.0} % of a core",
        seen.received,
        seen.lost,
        seen.timed,
        100.0 * seen.within_5_ms as f64 / seen.timed.max(1) as f64,
        seen.cpu.as_secs_f64() * 100.0 / seconds as f64
    );
}

/// Bridges and records as the mode says.
fn route(engine: &EngineHandle, ports: &[(PortId, u16)], mode: Mode, directory: &Path) {
    let ports: Vec<PortId> = ports.iter().map(|(port, _)| *port).collect();
    let path = |port: PortId| directory.join(format!("{}.wav", port.0));
    if mode.bridged {
        for pair in ports.chunks_exact(2) {
            let (one, other) = (pair[0], pair[1]);
            engine.send(Command::SetRoutes(vec![(one, vec![other]), (other, vec![one])]));
            if mode.recorded {
                engine.start_recording(path(one), Form::Pcm16, vec![one], Some(vec![other]));
            }
        }
    } else if mode.recorded {
        for port in ports {
            engine.start_recording(path(port), Form::Pcm16, vec![port], None);
        }
    }
}

fn start(first: u16) -> Result<EngineHandle> {
    let range = PortRange { first, last: first + 19_999, quarantine: Duration::ZERO };
    Ok(EngineHandle::start(range)?)
}

fn write_prompt(path: &PathBuf) -> Result<PathBuf> {
    let tone = (0..8000u32).flat_map(|index| {
        let phase = f64::from(index) * 440.0 * std::f64::consts::TAU / 8000.0;
        ((phase.sin() * 9000.0) as i16).to_le_bytes()
    });
    let data: Vec<u8> = tone.collect();
    fs::write(path, [&wav::header(1, data.len() as u64)[..], &data].concat())?;
    Ok(path.clone())
}

/// Opens ports; returns them with their numbers.
fn open(engine: &EngineHandle, ports: u16) -> Result<Vec<(PortId, u16)>> {
    let opened = (0..ports).map(|_| engine.open_port(LOCALHOST));
    Ok(opened.collect::<std::result::Result<_, _>>().map_err(|error| format!("{error:?}"))?)
}

fn connection(far_number: u16, suite: Option<Suite>) -> Connection {
    Connection {
        remote: SocketAddr::new(LOCALHOST, far_number),
        codec: Codec::Pcma,
        payload_type: Pt(8),
        digit_pt: Some(Pt(101)),
        heard_as: None,
        packet_time_ms: 20,
        send: true,
        receive: true,
        media_timeout_ms: 0,
        security: suite.and_then(keys),
        detect: Detect::default(),
        rtcp: Rtcp::Port(far_number + 1),
    }
}

/// One key for both ways: their packets differ by their SSRC.
fn keys(suite: Suite) -> Option<Security> {
    let key = MasterKey::new(suite, &vec![7; suite.key_len() + suite.salt_len()])?;
    Some(Security::Sdes(Keys { local: key, remote: key }))
}

/// Time the processors of this machine were kept from running, in clock ticks, proc_stat(5).
fn stolen() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = stat.split_whitespace().nth(8).ok_or("no steal")?;
    Ok(ticks.parse()?)
}

/// How long the engine's thread has been ready to run and was not let, proc_pid_schedstat.
fn waited() -> Result<Duration> {
    let mut threads: Vec<_> = fs::read_dir("/proc/self/task")?.collect::<io::Result<_>>()?;
    threads.sort_by_key(DirEntry::file_name);
    for thread in threads {
        if fs::read_to_string(thread.path().join("comm"))?.trim() == "media-reactor" {
            let stat = fs::read_to_string(thread.path().join("schedstat"))?;
            let ns = stat.split_whitespace().nth(1).ok_or("no waiting time")?.parse()?;
            return Ok(Duration::from_nanos(ns));
        }
    }
    Err("no reactor".into())
}

/// Resident memory of this process.
fn resident_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse()?)
}

fn figures(engine: &EngineHandle) -> Vec<(&'static str, u64)> {
    engine.figures().all()
}

fn report(
    before: &[(&'static str, u64)],
    after: &[(&'static str, u64)],
    ports: u16,
    seconds: u64,
    bare_us: f64,
) {
    let grown = |name: &str| {
        let of = |all: &[(&'static str, u64)]| {
            all.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
        };
        of(after) - of(before)
    };
    let (sent, received) = (grown("packets_sent"), grown("packets_received"));
    let share = |count: u64| 100.0 * count as f64 / sent.max(1) as f64;
    let within_5_ms = grown("sent_within_1_ms") + grown("sent_within_5_ms");
    let expected = u64::from(ports) * 50 * seconds;
    let cpu_us = grown("reactor_cpu_us") as f64;
    let packet_us = cpu_us / (sent + received).max(1) as f64;
    println!("ports {ports}, {seconds} s: {expected} packets expected each way");
    println!("  sent {sent}, received {received}, skipped rounds {}", grown("skipped_rounds"));
    println!(
        "  on time: {:.2} % within 1 ms, {:.2} % within 5 ms, worst ever {:.1} ms",
        share(grown("sent_within_1_ms")),
        share(within_5_ms),
        after.iter().find(|(name, _)| *name == "max_lateness_us").map_or(0, |(_, us)| *us) as f64
            / 1000.0
    );
    println!(
        "  CPU: {:.0} % of a core, {packet_us:.2} us a packet; bare system call {bare_us:.2} us, \
         ratio {:.2}",
        cpu_us / (seconds as f64 * 1e4),
        packet_us / bare_us
    );
    println!("  recorded frames dropped: {}", grown("dropped_frames"));
}
