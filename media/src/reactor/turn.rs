//! The turn of a slot's members: a few ports at a time hear, send and are recorded.
//!
//! A port's turn touches kilobytes, here and in the kernel, and the ports of a slot together more
//! than the cache next to the processor holds. So what one of them needs is used while it is there,
//! and is fetched, all its parts at once, while the one before it is busy.

use std::net::SocketAddr;

use super::reading::Counts;
use super::{RECEIVE_BUFFER_LEN, Reactor, faults};
use crate::clock::{self, Now};
use crate::figures::Figures;
use crate::matrix::Sink;
use crate::mixer;
use crate::outbox::Channel;
use crate::socket::PortSockets;
use crate::wheel::SLOT;

/// Ports that have their turn together.
pub(super) const BATCH: usize = 32;

/// The slot whose turn has come.
pub(super) struct Turn<'a> {
    pub(super) slot: usize,
    pub(super) deadline: Now,
    /// Its last turn was a round ago. What a late one finds on sockets says nothing of a stream, nor
    /// does what the next one finds.
    pub(super) is_in_time: bool,
    /// Room for what is read.
    pub(super) datagram: &'a mut [u8; RECEIVE_BUFFER_LEN],
}

/// What was handed to the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    media: u64,
    reports: u64,
    refused: u64,
}

impl Left {
    /// Sends a packet of a port.
    pub(super) fn send(
        &mut self,
        sockets: &mut PortSockets,
        channel: Channel,
        to: &SocketAddr,
        octets: &[u8],
    ) {
        let (socket, count) = match channel {
            Channel::Media => (&mut sockets.media, &mut self.media),
            Channel::Reports => (&mut sockets.reports, &mut self.reports),
        };
        if socket.send(octets, to).is_ok() {
            *count += 1;
        } else {
            self.refused += 1;
        }
    }

    /// Counts it; media was due at `deadline`, or just now.
    pub(super) fn count(self, figures: &Figures, deadline: Option<Now>) {
        if self.media > 0 {
            let now = clock::now();
            figures.count_sent(self.media, now.saturating_sub(deadline.unwrap_or(now)));
        }
        if self.reports > 0 {
            figures.reports_sent.add(self.reports);
        }
        if self.refused > 0 {
            figures.send_errors.add(self.refused);
        }
    }
}

impl Reactor {
    /// Gives members their turn in a round: those of a slot, or, without a `turn`, those that have
    /// moved to one that has had it. Who hears whom sits in the same slot, so a port hears what was
    /// said in the same 20 ms.
    pub(super) fn tick_members(
        &mut self,
        ports: &[usize],
        recorders: &[usize],
        round: u64,
        mut turn: Option<Turn<'_>>,
    ) {
        for batch in ports.chunks(BATCH) {
            let now = clock::now();
            self.hear(batch, round, now, turn.as_mut());
            let faulty = faults::each(batch, |key| self.tick_send(key, round, now));
            self.note_faulty(&faulty);
            let left = self.flush(turn.as_ref().map(|turn| turn.slot));
            left.count(&self.shared.figures, turn.as_ref().map(|turn| turn.deadline));
            if turn.is_some() {
                self.record_heard(batch, round);
            }
        }
        self.record(recorders, round);
    }

    /// Lets ports hear, and those that they hear themselves.
    fn hear(&mut self, batch: &[usize], round: u64, now: Now, mut turn: Option<&mut Turn<'_>>) {
        let mut members = std::mem::take(&mut self.members);
        members.clear();
        members.extend_from_slice(batch);
        if let Some(turn) = &turn {
            for key in batch {
                self.add_sources(*key, turn.slot, round, &mut members);
            }
        }
        let deadline = turn.as_ref().map(|turn| turn.deadline);
        let is_behind = deadline.is_some_and(|deadline| now.saturating_sub(deadline) > SLOT);
        let mut counts = Counts::default();
        let mut following = members.iter().skip(1);
        let faulty = faults::each(&members, |key| {
            if let Some(next) = following.next() {
                self.ports[*next].fetch();
            }
            if !self.ports[key].begin_turn(round) {
                return;
            }
            if let Some(turn) = &mut turn {
                self.read_calm(key, round, now, turn, &mut counts);
            }
            let entry = &mut self.ports[key];
            entry.tick_receive(round, now, is_behind, &mut self.events);
            entry.settle_reading(&self.epoll, key);
        });
        self.members = members;
        self.note_faulty(&faulty);
        self.count_read(counts);
    }

    /// Adds those that a port hears, or whose keys it passes on, if their turn in this slot is still
    /// to come.
    fn add_sources(&self, key: usize, slot: usize, round: u64, members: &mut Vec<usize>) {
        let hearing = self.matrix.hearing(key);
        let routes = self.ports[key].key_routes.iter().map(|route| route.source);
        let sources = hearing.sources.iter().chain(hearing.leaving).copied().chain(routes);
        members.extend(sources.filter(|source| {
            let entry = self.ports.get(*source);
            entry.is_some_and(|entry| entry.slot == slot && !entry.has_had_turn(round))
        }));
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

    /// Sends what is in the outbox, and at the turn of a `slot` puts aside what is due after it.
    pub(super) fn flush(&mut self, slot: Option<usize>) -> Left {
        let mut left = Left::default();
        for (packet, octets) in self.sending.outbox.packets() {
            let entry = &mut self.ports[packet.key];
            match slot.filter(|_| packet.waits) {
                Some(slot) => {
                    self.waiting.keep(slot, entry.port.id(), packet.key, packet.to, octets);
                }
                None => left.send(&mut entry.sockets, packet.channel, &packet.to, octets),
            }
        }
        self.sending.outbox.clear();
        left
    }

    /// Lets those recorders record all of whose sources have heard, while what they heard is at
    /// hand.
    fn record_heard(&mut self, batch: &[usize], round: u64) {
        let mut ready = std::mem::take(&mut self.members);
        ready.clear();
        for sink in batch.iter().flat_map(|key| self.matrix.sinks(*key)) {
            let Sink::Recorder(key) = *sink else { continue };
            let mut sources = self.matrix.sources(*sink).iter();
            if sources.all(|port| self.ports.get(*port).is_none_or(|e| e.has_had_turn(round))) {
                ready.push(key);
            }
        }
        self.record(&ready, round);
        self.members = ready;
    }

    /// Lets recorders record that have not yet in this round.
    fn record(&mut self, recorders: &[usize], round: u64) {
        let faulty = faults::each(recorders, |key| self.tick_recorder(key, round));
        for key in faulty {
            self.note_faulty_sources(key);
        }
    }
}
