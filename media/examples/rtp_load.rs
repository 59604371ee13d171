//! Measures pacing and CPU of the engine under load, beside bare system calls.
//!
//! `cargo run --release --no-default-features --example rtp_load -- PORTS SECONDS [ivr|bridge]`
//!
//! One engine serves PORTS calls, a second one plays their far ends; both send and receive 50
//! packets a second and port. `ivr` plays a looped prompt to each call; `bridge` bridges the calls
//! in pairs and records every pair. Everything stays on 127.0.0.1.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use _media::clock;
use _media::codec::Codec;
use _media::event::{Command, Connection, Detect, PortId};
use _media::handle::{EngineHandle, PortRange};
use _media::rtp::Pt;
use _media::socket::RtpSocket;
use _media::wav;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SETTLE: Duration = Duration::from_secs(2);
/// Packets each pair of the bare measurement passes on.
const BARE_ROUNDS: u32 = 100;
const MAX_PORTS: u16 = 5000;
const MAX_SECONDS: u64 = 60;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ports, seconds, rest @ ..] = &arguments[..] else {
        return Err("usage: rtp_load PORTS SECONDS [ivr|bridge]".into());
    };
    let ports = ports.parse::<u16>()?.min(MAX_PORTS);
    let seconds = seconds.parse::<u64>()?.min(MAX_SECONDS);
    let bridged = rest.first().is_some_and(|mode| mode == "bridge");
    let bare_us = bare_packet_us(ports)?;

    let directory = std::env::temp_dir().join(format!("rtp-load-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let prompt = write_prompt(&directory.join("prompt.wav"))?;
    let engine = start(10_000)?;
    let far_ends = start(30_000)?;
    let calls = connect(&engine, &far_ends, ports)?;
    for (port, far_port) in &calls {
        far_ends.play(*far_port, vec![prompt.clone()], true);
        if !bridged {
            engine.play(*port, vec![prompt.clone()], true);
        }
    }
    if bridged {
        for (index, pair) in calls.chunks_exact(2).enumerate() {
            let (one, other) = (pair[0].0, pair[1].0);
            engine.send(Command::SetRoutes(vec![(one, vec![other]), (other, vec![one])]));
            let path = directory.join(format!("{index}.wav"));
            engine.start_recording(path, wav::Form::Pcm16, vec![one], Some(vec![other]));
        }
    }
    let settled = clock::now() + SETTLE;
    clock::sleep_until(settled);
    let before = figures(&engine);
    clock::sleep_until(settled + Duration::from_secs(seconds));
    let after = figures(&engine);
    report(&before, &after, ports, seconds, bare_us);
    engine.shutdown();
    far_ends.shutdown();
    fs::remove_dir_all(&directory)?;
    Ok(())
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

/// Opens the ports of both engines and connects them one to one.
fn connect(
    engine: &EngineHandle,
    far_ends: &EngineHandle,
    ports: u16,
) -> Result<Vec<(PortId, PortId)>> {
    let mut calls = Vec::new();
    for _ in 0..ports {
        let (port, number) = engine.open_port(LOCALHOST).map_err(|error| format!("{error:?}"))?;
        let (far_port, far_number) =
            far_ends.open_port(LOCALHOST).map_err(|error| format!("{error:?}"))?;
        for (side, id, remote) in [(engine, port, far_number), (far_ends, far_port, number)] {
            let connection = Connection {
                remote: SocketAddr::new(LOCALHOST, remote),
                codec: Codec::Pcma,
                payload_type: Pt(8),
                digit_pt: Some(Pt(101)),
                packet_time_ms: 20,
                send: true,
                receive: true,
                media_timeout_ms: 0,
                security: None,
                detect: Detect::default(),
            };
            side.connect(id, connection);
        }
        calls.push((port, far_port));
    }
    Ok(calls)
}

/// CPU of one packet sent or received by a bare system call, on as many pairs of sockets.
fn bare_packet_us(pairs: u16) -> Result<f64> {
    let sockets: Vec<RtpSocket> = (50_000..u16::MAX)
        .filter_map(|port| RtpSocket::bind(SocketAddr::new(LOCALHOST, port)).ok())
        .take(usize::from(pairs) * 2)
        .collect();
    let datagram = [0x80; 172];
    let mut buffer = [0; 1500];
    let mut packets = 0u32;
    let started = clock::thread_cpu();
    for _ in 0..BARE_ROUNDS {
        for pair in sockets.chunks_exact(2) {
            pair[0].send(&datagram, &SocketAddr::new(LOCALHOST, pair[1].port()))?;
        }
        for pair in sockets.chunks_exact(2) {
            pair[1].receive(&mut buffer)?;
            packets += 2;
        }
    }
    let used = clock::thread_cpu() - started;
    Ok(used.as_secs_f64() * 1e6 / f64::from(packets))
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
