//! How sockets are read: those of calm streams at the tick of their port, all others as soon as
//! something has come.
//!
//! Epoll costs a packet as much as it costs to enter the kernel, and more: a watched socket calls
//! back for each packet it sends as well. A stream that nobody listens to, or that brings one packet
//! every 20 ms, need not be watched. It is for a second now and then, since only then jitter can be
//! measured; and one that is listened to is again as soon as ticks in time find more or less than one
//! datagram each, but for one that falls on the other side of a tick.
//!
//! To find that nothing more has come costs a call into the kernel as well. Where the tick before
//! found one datagram, the first is taken for the only one; a second is found by the next tick, and
//! is no later than it would have been played, and every few ticks all are read.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::Timespec;

use super::entry::Taken;
use super::turn::Turn;
use super::{COMMANDS, Inbox, PROMPT, READY_BATCH, RECEIVE_BUFFER_LEN, Reactor, faults};
use crate::clock::{self, Now};
use crate::socket::RtpSocket;

/// Datagrams read from one socket before other work is done.
const MAX_DATAGRAMS_PER_SLOT: usize = 4;

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    received: u64,
    invalid: u64,
    aside: u64,
}

impl Counts {
    fn all(self) -> u64 {
        self.received + self.invalid + self.aside
    }
}

impl Reactor {
    /// Reads what has come on watched sockets, then obeys commands, so that no key in a batch is
    /// stale.
    pub(super) fn take_in(&mut self, inbox: &mut Inbox) {
        let mut commanded = false;
        let mut counts = Counts::default();
        let began = clock::now();
        let is_prompt = began.saturating_sub(self.read_at) < PROMPT;
        self.read_at = began;
        // Sockets that had several datagrams, or did not fit in the batch, come up again.
        for _ in 0..MAX_DATAGRAMS_PER_SLOT + self.ports.len() / READY_BATCH {
            inbox.ready.clear();
            let spare = spare_capacity(&mut inbox.ready);
            if epoll::wait(&self.epoll, spare, Some(&AT_ONCE)).is_err() {
                break;
            }
            let now = clock::now();
            let before = counts.all();
            for event in &inbox.ready {
                let key = event.data.u64();
                if key == COMMANDS {
                    commanded = true;
                } else {
                    let key = key as usize;
                    self.read_one(key, &mut inbox.datagram, now, is_prompt, &mut counts);
                }
            }
            if counts.all() == before {
                break;
            }
        }
        self.count_read(counts);
        if commanded {
            self.obey(clock::now());
        }
        self.shake_hands(clock::now());
    }

    /// Reads the socket of a calm stream at the turn of its port; if it is calm no longer it is
    /// watched again.
    pub(super) fn read_calm(
        &mut self,
        key: usize,
        round: u64,
        now: Now,
        turn: &mut Turn<'_>,
        counts: &mut Counts,
    ) {
        let Some(entry) = self.ports.get(key).filter(|entry| !entry.is_watched()) else { return };
        let reads_one = turn.is_in_time && entry.reads_one(round);
        let most = if reads_one { 1 } else { MAX_DATAGRAMS_PER_SLOT };
        let mut found = 0;
        while found < most && self.read_one(key, turn.datagram, now, false, counts) {
            found += 1;
        }
        if let Some(entry) = self.ports.get_mut(key) {
            entry.found_at_tick(found, turn.is_in_time);
        }
    }

    /// Reads one report of each port that has one, every 20 ms; a flood of them is dropped by the
    /// kernel.
    pub(super) fn take_in_reports(&mut self, inbox: &mut Inbox) {
        inbox.ready.clear();
        let spare = spare_capacity(&mut inbox.ready);
        if epoll::wait(&self.reports_epoll, spare, Some(&AT_ONCE)).is_err() {
            return;
        }
        let now = clock::now();
        let (mut received, mut invalid) = (0, 0);
        for event in &inbox.ready {
            if let Some(entry) = self.ports.get_mut(event.data.u64() as usize)
                && let Ok((len, from)) = entry.sockets.reports.receive(&mut inbox.datagram)
            {
                let datagram = &mut inbox.datagram[..len.min(RECEIVE_BUFFER_LEN)];
                match faults::caught(|| entry.receive_report(datagram, from, now)) {
                    Some(true) => received += 1,
                    Some(false) => invalid += 1,
                    None => self.note_faulty(&[event.data.u64() as usize]),
                }
            }
        }
        self.shared.figures.reports_received.add(received);
        self.shared.figures.packets_invalid.add(invalid);
    }

    /// Reads a datagram of a port, and says whether it came just now; false when there was none.
    fn read_one(
        &mut self,
        key: usize,
        buffer: &mut [u8; RECEIVE_BUFFER_LEN],
        now: Now,
        is_prompt: bool,
        counts: &mut Counts,
    ) -> bool {
        let Some(entry) = self.ports.get_mut(key) else { return false };
        let Ok((len, from)) = entry.sockets.media.receive(buffer) else { return false };
        entry.port.set_prompt(is_prompt);
        match faults::caught(|| self.take(key, buffer, len, from, now)) {
            Some(Taken::Media) => counts.received += 1,
            Some(Taken::Invalid) => counts.invalid += 1,
            Some(Taken::Aside) => counts.aside += 1,
            None => {
                self.note_faulty(&[key]);
                counts.invalid += 1;
            }
        }
        true
    }

    /// Gives a datagram of `len` octets, all or the first of which are in `buffer`, to its port.
    fn take(
        &mut self,
        key: usize,
        buffer: &mut [u8; RECEIVE_BUFFER_LEN],
        len: usize,
        from: SocketAddr,
        now: Now,
    ) -> Taken {
        let is_whole = len <= RECEIVE_BUFFER_LEN;
        let datagram = &mut buffer[..len.min(RECEIVE_BUFFER_LEN)];
        let Some(entry) = self.ports.get_mut(key) else { return Taken::Invalid };
        if entry.relay.is_some() {
            return self.relay(key, datagram, is_whole, from, now);
        }
        if entry.is_handshake(datagram, from, now) {
            self.handshakes.push(key, entry.port.id(), datagram, from);
            return Taken::Aside;
        }
        entry.receive(datagram, from, now, &mut self.events)
    }

    pub(super) fn count_read(&self, counts: Counts) {
        self.shared.figures.packets_received.add(counts.received);
        self.shared.figures.packets_invalid.add(counts.invalid);
    }
}

/// Has epoll tell of a socket, or not.
pub(super) fn watch(epoll: &OwnedFd, socket: &RtpSocket, key: usize) -> bool {
    let data = epoll::EventData::new_u64(key as u64);
    epoll::add(epoll, socket, data, epoll::EventFlags::IN).is_ok()
}
