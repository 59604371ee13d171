//! The reactor thread: the only one that touches sockets and packets.
//!
//! While there are ports it wakes at each slot of the wheel, every 2 ms, takes in what has arrived,
//! obeys commands and gives the ports of the slot their turn: they read calm streams and send what is
//! due; without ports it sleeps until a command comes. A few datagrams a socket are read per slot: far more than a phone sends,
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
use crate::outbox::Outbox;
use crate::priority::Priority;
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
mod turn;
mod waiting;

use entry::Entry;
use handshakes::Handshakes;
use turn::{BATCH, Turn};
use waiting::WaitingRoom;

/// Larger datagrams are no voice and are cut, then refused by their length.
const RECEIVE_BUFFER_LEN: usize = 1500;

/// Sockets taken from epoll at once.
const READY_BATCH: usize = 512;

/// What is this early or late is in time, as far as it tells when packets come.
const PROMPT: Duration = Duration::from_millis(4);

/// Turns of the wheel between two readings of the thread's CPU clock, 1 s.
const FIGURES_EVERY_ROUNDS: u64 = 50;

/// Slots between two times at which the application is woken for what has happened, 10 ms: to be woken
/// costs it more than most events do.
const TELL_EVERY_SLOTS: usize = 5;

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
    /// When it last had its turn.
    turn_at: Now,
}

/// Room for what one wake-up takes in, used again and again.
struct Inbox {
    ready: Vec<epoll::Event>,
    datagram: [u8; RECEIVE_BUFFER_LEN],
}

impl Inbox {
    fn new() -> Self {
        Self { ready: Vec::with_capacity(READY_BATCH), datagram: [0; RECEIVE_BUFFER_LEN] }
    }
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
    /// Room for the keys of those whose turn it is.
    members: Vec<usize>,
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
            sending: Sending { sound: Sound::default(), outbox: Outbox::new(BATCH) },
            members: Vec::new(),
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
        let mut priority = Priority::ask();
        let mut slept = Duration::ZERO;
        let mut inbox = Inbox::new();
        while !self.stopping {
            let idle = self.ports.is_empty() && self.recorders.is_empty();
            if idle {
                self.publish();
                let idle_since = clock::now();
                self.wait_for_command(&mut inbox);
                slept += clock::now().saturating_sub(idle_since);
                self.wheel.resume(clock::now());
            } else {
                slept += clock::sleep_until(self.wheel.deadline());
            }
            self.take_in(&mut inbox);
            if let Some(tick) = self.wheel.pop_due(clock::now()) {
                if tick.slot == REPORTS_SLOT {
                    self.take_in_reports(&mut inbox);
                }
                self.tick(&tick, &mut inbox);
                if priority.settle(clock::now(), slept) {
                    self.shared.figures.priority_yields.add(1);
                }
                if tick.slot.is_multiple_of(TELL_EVERY_SLOTS) {
                    self.publish();
                }
            }
            if !self.faulty.is_empty() {
                self.end_faulty(clock::now());
            }
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
        self.send_waiting(tick.slot, tick.deadline);
        let now = clock::now();
        let waited = now.saturating_sub(slot.turn_at);
        slot.turn_at = now;
        let turn = Turn {
            slot: tick.slot,
            deadline: tick.deadline,
            is_in_time: waited.abs_diff(SLOT * SLOTS as u32) < PROMPT,
            datagram: &mut inbox.datagram,
        };
        self.tick_members(&slot.ports, &slot.recorders, tick.round, Some(turn));
        self.slots[tick.slot] = slot;
        if tick.round >= self.next_figures_round {
            self.next_figures_round = tick.round + FIGURES_EVERY_ROUNDS;
            self.shared.figures.reactor_cpu_us.set(clock::thread_cpu().as_micros() as u64);
            self.shared.figures.skipped_rounds.set(self.wheel.skipped_rounds());
        }
    }

    fn publish(&mut self) {
        for event in self.events.drain(..) {
            self.shared.events.push(event);
        }
    }
}
