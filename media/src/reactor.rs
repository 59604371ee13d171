//! The reactor thread: the only one that touches sockets and packets.
//!
//! While there are ports it wakes at each slot of the wheel, every 2 ms, takes in what has arrived,
//! obeys commands, reads the calm streams of the slot and sends what is due; without ports it sleeps
//! until a command comes. A few datagrams a socket are read per slot: far more than a phone sends,
//! and a bound on what a flood on one port can cost the others.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use slab::Slab;

use crate::clock::{self, Now};
use crate::disk::Disk;
use crate::event::{Command, Event, PortId, RecordingId, TapId, WakingQueue};
use crate::figures::Figures;
use crate::loader;
use crate::matrix::Matrix;
use crate::mixer;
use crate::outbox::{Channel, Outbox};
use crate::recorder::Recorder;
use crate::secure::dtls::Identity;
use crate::socket::PortNumbers;
use crate::sound::Sound;
use crate::wheel::{SLOT, SLOTS, Tick, Wheel};

mod control;
mod entry;
pub(crate) mod faults;
mod handshakes;
mod keys;
mod reading;
mod recording;
mod relaying;
mod routing;
mod waiting;

use entry::Entry;
use handshakes::Handshakes;
use waiting::WaitingRoom;

/// Larger datagrams are no voice and are cut, then refused by their length.
const RECEIVE_BUFFER_LEN: usize = 1500;

/// Sockets taken from epoll at once.
const READY_BATCH: usize = 512;

/// Ports sent between two readings of the clock.
const SEND_BATCH: usize = 32;

/// Turns of the wheel between two readings of the thread's CPU clock, 1 s.
const FIGURES_EVERY_ROUNDS: u64 = 50;

/// The slot of the wheel in which reports are read.
const REPORTS_SLOT: usize = 0;

/// Key of the command queue in epoll; ports have their slab keys.
const COMMANDS: u64 = u64::MAX;

/// What the reactor shares with the threads that command it.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Commands to the reactor.
    pub commands: WakingQueue<Command>,
    /// Events to the application.
    pub events: WakingQueue<Event>,
    /// Counts.
    pub figures: Arc<Figures>,
    /// Pieces of taps that the application has not taken yet.
    pub waiting_pieces: Arc<AtomicUsize>,
    /// Port numbers, given back when a port has closed.
    pub numbers: Arc<Mutex<PortNumbers>>,
    /// What browsers see of us.
    pub identity: Arc<Identity>,
}

#[derive(Default)]
struct Slot {
    ports: Vec<usize>,
    recorders: Vec<usize>,
    /// When the sockets of its calm streams were read.
    read_at: Now,
}

/// Room for what one wake-up takes in, used again and again.
struct Inbox {
    ready: Vec<epoll::Event>,
    datagram: [u8; RECEIVE_BUFFER_LEN],
}

/// Room for what is sent in one slot.
struct Sending {
    sound: Sound,
    outbox: Outbox,
}

/// The state of the thread.
pub struct Reactor {
    shared: Shared,
    epoll: OwnedFd,
    /// RTCP's sockets, looked at in one slot of the wheel: what they bring is in no hurry.
    reports_epoll: OwnedFd,
    /// What the monotonic clock lacks to wall-clock time counted from 1900.
    behind_1900: Duration,
    ports: Slab<Entry>,
    port_keys: HashMap<PortId, usize>,
    matrix: Matrix,
    recorders: Slab<Recorder>,
    recording_keys: HashMap<RecordingId, usize>,
    tap_keys: HashMap<TapId, usize>,
    wheel: Wheel,
    next_figures_round: u64,
    /// When watched sockets were read.
    read_at: Now,
    slots: [Slot; SLOTS],
    waiting: WaitingRoom,
    sending: Sending,
    handshakes: Handshakes,
    events: Vec<Event>,
    /// Ports on which a panic came up.
    faulty: Vec<PortId>,
    loads: Sender<loader::Request>,
    disk: Disk,
    stopping: bool,
}

impl Reactor {
    /// A reactor ready to run.
    ///
    /// # Errors
    /// When epoll is not to be had.
    pub fn new(shared: Shared, loads: Sender<loader::Request>, disk: Disk) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(COMMANDS);
        epoll::add(&epoll, &shared.commands, data, epoll::EventFlags::IN)?;
        Ok(Self {
            shared,
            epoll,
            reports_epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            behind_1900: clock::behind_1900(),
            ports: Slab::new(),
            port_keys: HashMap::new(),
            matrix: Matrix::default(),
            recorders: Slab::new(),
            recording_keys: HashMap::new(),
            tap_keys: HashMap::new(),
            wheel: Wheel::new(clock::now()),
            next_figures_round: 0,
            read_at: Now::ZERO,
            slots: Default::default(),
            waiting: WaitingRoom::default(),
            sending: Sending { sound: Sound::default(), outbox: Outbox::new(SEND_BATCH) },
            handshakes: Handshakes::default(),
            events: Vec::new(),
            faulty: Vec::new(),
            loads,
            disk,
            stopping: false,
        })
    }

    /// Runs until told to shut down.
    pub fn run(mut self) {
        clock::prefer_thread();
        let mut inbox =
            Inbox { ready: Vec::with_capacity(READY_BATCH), datagram: [0; RECEIVE_BUFFER_LEN] };
        while !self.stopping {
            let idle = self.ports.is_empty() && self.recorders.is_empty();
            if idle {
                self.wait_for_command(&mut inbox);
                self.wheel.resume(clock::now());
            } else {
                clock::sleep_until(self.wheel.deadline());
            }
            self.take_in(&mut inbox);
            if let Some(tick) = self.wheel.pop_due(clock::now()) {
                if tick.slot == REPORTS_SLOT {
                    self.take_in_reports(&mut inbox);
                }
                self.tick(&tick, &mut inbox);
            }
            if !self.faulty.is_empty() {
                self.end_faulty(clock::now());
            }
            self.publish();
        }
        self.close_all();
        self.publish();
    }

    fn wait_for_command(&mut self, inbox: &mut Inbox) {
        inbox.ready.clear();
        let _interrupted = epoll::wait(&self.epoll, spare_capacity(&mut inbox.ready), None);
        self.obey(clock::now());
    }

    fn tick(&mut self, tick: &Tick, inbox: &mut Inbox) {
        // Taken out so that ports can be changed while it is walked; put back below.
        let mut slot = std::mem::take(&mut self.slots[tick.slot]);
        self.send_waiting(tick.slot, clock::now(), tick.deadline);
        self.read_calm(&mut slot, inbox);
        self.tick_members(&slot.ports, &slot.recorders, tick.round, Some(tick));
        self.slots[tick.slot] = slot;
        if tick.round >= self.next_figures_round {
            self.next_figures_round = tick.round + FIGURES_EVERY_ROUNDS;
            self.shared.figures.reactor_cpu_us.set(clock::thread_cpu().as_micros() as u64);
            self.shared.figures.skipped_rounds.set(self.wheel.skipped_rounds());
        }
    }

    /// Lets ports hear, ports send and recordings record, in this order: who hears whom sits in the
    /// same slot, and so hears what was said in the same 20 ms. Only packets have a deadline.
    fn tick_members(
        &mut self,
        ports: &[usize],
        recorders: &[usize],
        round: u64,
        tick: Option<&Tick>,
    ) {
        let now = clock::now();
        let deadline = tick.map(|tick| tick.deadline);
        let is_behind = deadline.is_some_and(|deadline| now.saturating_sub(deadline) > SLOT);
        let faulty = faults::each(ports, |key| {
            let entry = &mut self.ports[key];
            entry.tick_receive(round, now, is_behind, &mut self.events);
            entry.settle_reading(&self.epoll, key);
        });
        self.note_faulty(&faulty);
        for batch in ports.chunks(SEND_BATCH) {
            let faulty = faults::each(batch, |key| self.tick_send(key, round, now));
            self.note_faulty(&faulty);
            let sent = self.flush(tick.map(|tick| tick.slot));
            let now = clock::now();
            let lateness = now.saturating_sub(deadline.unwrap_or(now));
            self.shared.figures.count_sent(sent, lateness);
        }
        let faulty = faults::each(recorders, |key| self.tick_recorder(key, round));
        for key in faulty {
            self.note_faulty_sources(key);
        }
    }

    /// Puts what is due on a port into the outbox.
    fn tick_send(&mut self, key: usize, round: u64, now: Now) {
        self.relay_keys(key);
        let sound = &mut self.sending.sound;
        let codec = self.ports[key].port.codec();
        let hearing = self.matrix.hearing(key);
        let changed = !hearing.joining.is_empty() || !hearing.leaving.is_empty();
        mixer::hear(hearing, codec, round, &mut self.ports, sound);
        if changed {
            self.settle_routes(key);
        }
        self.ports[key].tick_send(key, round, now, &mut self.sending, &mut self.events);
    }

    /// Sends what is in the outbox, and at the tick of a `slot` puts aside what is due after it;
    /// returns how many packets of media left.
    fn flush(&mut self, slot: Option<usize>) -> u64 {
        let (mut sent, mut reports) = (0, 0);
        for (packet, octets) in self.sending.outbox.packets() {
            let entry = &mut self.ports[packet.key];
            if let Some(slot) = slot.filter(|_| packet.waits) {
                self.waiting.keep(slot, entry.port.id(), packet.key, packet.to, octets);
                continue;
            }
            let (socket, count) = match packet.channel {
                Channel::Media => (&mut entry.sockets.media, &mut sent),
                Channel::Reports => (&mut entry.sockets.reports, &mut reports),
            };
            if socket.send(octets, &packet.to).is_ok() {
                *count += 1;
            } else {
                self.shared.figures.send_errors.add(1);
            }
        }
        self.sending.outbox.clear();
        if reports > 0 {
            self.shared.figures.reports_sent.add(reports);
        }
        sent
    }

    fn publish(&mut self) {
        for event in self.events.drain(..) {
            self.shared.events.push(event);
        }
    }
}
