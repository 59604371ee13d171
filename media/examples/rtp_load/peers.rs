//! The far ends of many calls in one thread and on few sockets, as the gateway of a carrier has
//! them: next to nothing but what the kernel takes.
//!
//! Each call is sent a packet every 20 ms, all that come are read, counted and looked at for gaps in
//! their numbers. Of one socket in ten the kernel says when they came, so that the pacing is seen
//! from outside as well.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use _media::clock::{self, Now};
use _media::g711::{FRAME_SAMPLES, Law};
use _media::priority::Priority;
use _media::wheel::Wheel;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt,
};

use crate::wire::{self, Inbox, Outbox, Packet};

/// Calls on a socket.
const SHARERS: usize = 100;
const SLOTS: usize = 10;
/// A socket is read every other slot, 4 ms.
const READ_EVERY: usize = 2;
/// Enough to take a report off its socket.
const REPORT_LEN: usize = 64;
const RECEIVE_BUFFER: usize = 1 << 20;
const STAMPED_ONE_IN: usize = 10;
const TICK_NS: i64 = 1_000_000_000 / 8000;
const LATE_NS: i64 = 5_000_000;
const TONE_HZ: f64 = 440.0;

/// What the peers have seen since the time that was named at their start.
#[derive(Debug, Default)]
pub struct Seen {
    /// Packets sent to the engine, from the very start.
    pub sent: u64,
    /// Packets of the engine.
    pub received: u64,
    /// Numbers of theirs that have not come.
    pub lost: u64,
    /// Packets whose time of arrival is known.
    pub timed: u64,
    /// Of these, those that came within 5 ms of the call's earliest, by their RTP time.
    pub within_5_ms: u64,
    /// CPU time of the thread.
    pub cpu: Duration,
}

/// A socket and the calls that share it.
struct Lane {
    media: OwnedFd,
    reports: OwnedFd,
    port: u16,
}

/// The sockets, before there is anybody to talk to.
#[derive(Default)]
pub struct Peers {
    lanes: Vec<Lane>,
    sharers: usize,
}

/// The running thread.
pub struct Talk {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Seen>>,
}

impl Peers {
    /// Sockets for so many calls, from a port number on.
    pub fn open(calls: usize, first: u16) -> io::Result<Self> {
        let sharers = calls.div_ceil(SLOTS).clamp(1, SHARERS);
        let count = calls.div_ceil(sharers);
        let lanes = (first..u16::MAX).step_by(2).filter_map(|port| Lane::open(port).ok());
        Ok(Self { lanes: lanes.take(count).collect(), sharers })
    }

    /// Calls on a socket.
    pub fn sharers(&self) -> usize {
        self.sharers
    }

    /// Where a call's far end is.
    pub fn number(&self, call: usize) -> u16 {
        self.lanes[call / self.sharers].port
    }

    /// Begins to talk to the engine's ports, and to judge what comes from `judged_from` on.
    pub fn start(self, ports: Vec<u16>, judged_from: Now) -> Talk {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || run(&self, &ports, judged_from, &stopped));
        Talk { stop, thread }
    }
}

impl Talk {
    /// Ends it.
    pub fn stop(self) -> io::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the peers panicked"))?
    }
}

impl Lane {
    fn open(port: u16) -> io::Result<Self> {
        let bound = |port: u16| -> io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
            bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
            Ok(socket)
        };
        Ok(Self { media: bound(port)?, reports: bound(port + 1)?, port })
    }
}

fn run(peers: &Peers, ports: &[u16], judged_from: Now, stop: &AtomicBool) -> io::Result<Seen> {
    for lane in peers.lanes.iter().step_by(STAMPED_ONE_IN) {
        wire::stamp(&lane.media)?;
    }
    let mut seen = Seen::default();
    let mut inbox = Inbox::new();
    let mut outbox = Outbox::new(ports);
    let mut streams = Streams::new(ports);
    let tone = tone();
    let mut report = [0; REPORT_LEN];
    let (mut judged, mut before) = (false, Duration::ZERO);
    let mut wheel = Wheel::new(clock::now());
    let (mut priority, mut slept) = (Priority::ask(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        slept += clock::sleep_until(wheel.deadline());
        let Some(tick) = wheel.pop_due(clock::now()) else { continue };
        if !judged && tick.deadline >= judged_from {
            (judged, before) = (true, clock::thread_cpu());
        }
        priority.settle(clock::now(), slept);
        for (index, lane) in peers.lanes.iter().enumerate() {
            if index % READ_EVERY == tick.slot % READ_EVERY {
                // Nobody needs what is reported.
                let _read = recv(&lane.reports, &mut report[..], RecvFlags::DONTWAIT);
                inbox.drain(&lane.media, |packet| streams.take(packet, judged));
            }
            if index % SLOTS == tick.slot {
                let first = index * peers.sharers;
                let calls = first..ports.len().min(first + peers.sharers);
                let frame = &tone[tick.round as usize % tone.len()];
                seen.sent += outbox.send(&lane.media, calls, tick.round, frame);
            }
        }
    }
    seen.cpu = clock::thread_cpu().saturating_sub(before);
    streams.judge(&mut seen);
    Ok(seen)
}

/// A second of a tone.
fn tone() -> Vec<[u8; FRAME_SAMPLES]> {
    let samples = (0..8000u32).map(|index| {
        let phase = f64::from(index) * TONE_HZ * std::f64::consts::TAU / 8000.0;
        Law::A.encode((phase.sin() * 9000.0) as i16)
    });
    let octets: Vec<u8> = samples.collect();
    octets.as_chunks().0.to_vec()
}

/// What is known of a call's packets.
#[derive(Clone, Default)]
struct Stream {
    received: u64,
    last: u16,
    /// From the first number to the last one.
    span: u64,
    first_timestamp: u32,
    /// Arrival less RTP time, of each packet.
    transits_ns: Vec<i64>,
}

struct Streams {
    /// Call of a port number, and one more for strangers.
    calls: Box<[u16]>,
    streams: Vec<Stream>,
}

impl Streams {
    fn new(ports: &[u16]) -> Self {
        let mut calls = vec![ports.len() as u16; 1 << 16];
        for (call, port) in ports.iter().enumerate() {
            calls[usize::from(*port)] = call as u16;
        }
        Self { calls: calls.into(), streams: vec![Stream::default(); ports.len() + 1] }
    }

    fn take(&mut self, packet: &Packet, judged: bool) {
        if !judged {
            return;
        }
        let stream = &mut self.streams[usize::from(self.calls[usize::from(packet.port)])];
        if stream.received == 0 {
            stream.last = packet.sequence.wrapping_sub(1);
            stream.first_timestamp = packet.timestamp;
        }
        stream.received += 1;
        let step = packet.sequence.wrapping_sub(stream.last);
        if step < 1 << 15 {
            stream.span += u64::from(step);
            stream.last = packet.sequence;
        }
        if let Some(arrival_ns) = packet.arrival_ns {
            let ticks = packet.timestamp.wrapping_sub(stream.first_timestamp).cast_signed();
            stream.transits_ns.push(arrival_ns - i64::from(ticks) * TICK_NS);
        }
    }

    fn judge(&self, seen: &mut Seen) {
        let Some((_strangers, streams)) = self.streams.split_last() else { return };
        for stream in streams {
            seen.received += stream.received;
            seen.lost += stream.span.saturating_sub(stream.received);
            let Some(least) = stream.transits_ns.iter().min() else { continue };
            let late = |transit: &&i64| **transit - least > LATE_NS;
            seen.timed += stream.transits_ns.len() as u64;
            let late = stream.transits_ns.iter().filter(late).count();
            seen.within_5_ms += (stream.transits_ns.len() - late) as u64;
        }
    }
}
