//! A port with its socket, and between the two what makes its media secure, if it is.

use std::hint::black_box;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll;

use super::Sending;
use super::reading::watch;
use crate::clock::Now;
use crate::event::{Connection, Event};
use crate::outbox::Outbox;
use crate::port::{KeyRoute, Port};
use crate::relay::Relay;
use crate::rtcp;
use crate::secure::dtls::Identity;
use crate::secure::srtp::MAX_OVERHEAD;
use crate::secure::{Outcome, Received, Refusal, SecureMedia};
use crate::socket::PortSockets;

/// Rounds of the wheel between two looks at whether a socket can be tied, or left to its ticks:
/// 1.28 s. They cost calls into the kernel, and a source that pauses often is not worth them.
const LOOK_EVERY_ROUNDS: u64 = 64;

/// The same for a stream that has begun of late: many calls are over in seconds.
const YOUNG_LOOK_EVERY_ROUNDS: u64 = 16;

/// How long a stream is young, two looks at others.
const YOUNG_ROUNDS: u64 = 2 * LOOK_EVERY_ROUNDS;

/// For so long each stream is watched first: the filter of its jitter, RFC 3550 section 6.4.1, is
/// within 5 % by then.
const MEASURED_ROUNDS: u64 = 48;

/// Of so many looks one has the socket watched until the next, so that its jitter stays known.
const WATCHED_ONE_LOOK_IN: u64 = 7;

/// A calm socket is read until it is empty once in so many rounds, 100 ms.
const EMPTIED_EVERY_ROUNDS: u64 = 5;

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// RTP or RTCP of the port.
    Media,
    /// Nothing of this port.
    Invalid,
    /// It was for ICE or DTLS, or came before the keys.
    Aside,
}

pub(super) struct Entry {
    pub(super) port: Port,
    pub(super) sockets: PortSockets,
    pub(super) slot: usize,
    /// Whose keys its far end gets.
    pub(super) key_routes: Vec<KeyRoute>,
    /// Epoll tells of the media socket.
    is_watched: bool,
    /// The media socket may be left to the ticks.
    is_calm: bool,
    /// Datagrams that the last of these has found on it.
    found: usize,
    /// The round in which it last had its turn.
    last_turn: Option<u64>,
    /// The round in which its far end was first heard.
    heard_since: Option<u64>,
    /// Boxed, since most ports have none.
    secure: Option<Box<SecureMedia>>,
    /// Whether datagrams are handed on as they are; then the port itself does nothing.
    pub(super) relay: Option<Box<Relay>>,
}

impl Entry {
    pub(super) fn new(port: Port, sockets: PortSockets, slot: usize, is_watched: bool) -> Self {
        Self {
            port,
            sockets,
            slot,
            key_routes: Vec::new(),
            is_watched,
            is_calm: false,
            found: 0,
            last_turn: None,
            heard_since: None,
            secure: None,
            relay: None,
        }
    }

    /// Has the processor fetch what its turn needs: the parts do not wait for each other then.
    pub(super) fn fetch(&self) {
        let own = u64::from(self.sockets.media.port()) + self.found as u64;
        black_box(own + self.port.fetch());
    }

    /// Begins its turn in a round; false when it has had it.
    pub(super) fn begin_turn(&mut self, round: u64) -> bool {
        self.last_turn.replace(round) != Some(round)
    }

    /// Whether it has had its turn in a round.
    pub(super) fn has_had_turn(&self, round: u64) -> bool {
        self.last_turn == Some(round)
    }

    /// Whether epoll tells of the media socket; else it is read at the ticks.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Whether one datagram, if there is one, is all that need be read in this round.
    pub(super) fn reads_one(&self, round: u64) -> bool {
        let turn = round + self.port.id().0;
        self.found == 1 && !turn.is_multiple_of(EMPTIED_EVERY_ROUNDS)
    }

    /// Takes note of how many datagrams a tick has found on the media socket.
    pub(super) fn found_at_tick(&mut self, found: usize, is_in_time: bool) {
        self.found = found;
        if is_in_time {
            self.is_calm &= self.port.stays_calm(found);
        }
    }

    /// Has epoll watch the media socket, or not, as was found right.
    pub(super) fn settle_reading(&mut self, epoll: &OwnedFd, key: usize) {
        if self.is_calm != self.is_watched {
            return;
        }
        // Without epoll's memory it is left to the ticks, and looked at again at the next.
        self.is_watched = if self.is_calm {
            epoll::delete(epoll, &self.sockets.media).is_err()
        } else {
            watch(epoll, &self.sockets.media, key)
        };
    }

    /// Takes over what was negotiated.
    pub(super) fn connect(
        &mut self,
        connection: Connection,
        identity: &Identity,
        now: Now,
        events: &mut Vec<Event>,
    ) {
        match (&connection.security, &mut self.secure) {
            (None, secure) => *secure = None,
            (Some(security), Some(secure)) => secure.connect(security, identity, now),
            (Some(security), none) => {
                *none = Some(Box::new(SecureMedia::new(security, identity, now)));
            }
        }
        self.port.connect(connection, now);
        self.tell_outcome(events);
    }

    /// Whether a datagram is for DTLS, which may wait for `shake_hands`.
    pub(super) fn is_handshake(&self, datagram: &[u8], from: SocketAddr, now: Now) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.is_handshake(datagram, from, now))
    }

    /// Takes in a datagram that is no handshake; it is decrypted in place.
    pub(super) fn receive(
        &mut self,
        datagram: &mut [u8],
        from: SocketAddr,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Taken {
        let Some(secure) = &mut self.secure else {
            return accepted(self.port.receive(datagram, from, now, events));
        };
        let socket = &mut self.sockets.media;
        // What is lost here is sent again, as if the network had lost it.
        let mut send = |octets: &[u8], to| {
            let _sent = socket.send(octets, &to);
        };
        // ICE has shown where media comes from; to the port it is what was negotiated.
        let apparent = if secure.is_routed() { self.port.remote() } else { Some(from) };
        match secure.receive(datagram, from, now, &mut send) {
            Received::Media(plain) => {
                accepted(self.port.receive(plain, apparent.unwrap_or(from), now, events))
            }
            Received::Handled | Received::Refused(Refusal::Early) => Taken::Aside,
            Received::Refused(_) => {
                self.port.count_invalid();
                Taken::Invalid
            }
        }
    }

    /// Takes in a datagram of DTLS.
    pub(super) fn shake_hands(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
        events: &mut Vec<Event>,
    ) {
        if let Some(secure) = &mut self.secure {
            let socket = &mut self.sockets.media;
            secure.shake_hands(datagram, from, now, &mut |octets, to| {
                let _sent = socket.send(octets, &to);
            });
            self.tell_outcome(events);
        }
    }

    /// The receiving half of a tick. Once the thread is behind its slots, `is_behind`, to be told of
    /// packets says no more of when they come than the ticks do, and takes more time.
    pub(super) fn tick_receive(
        &mut self,
        round: u64,
        now: Now,
        is_behind: bool,
        events: &mut Vec<Event>,
    ) {
        if let Some(secure) = &mut self.secure {
            let socket = &mut self.sockets.media;
            secure.poll(now, &mut |octets, to| {
                let _sent = socket.send(octets, &to);
            });
            self.tell_outcome(events);
        }
        if self.relay.as_mut().is_some_and(|relay| relay.times_out(now)) {
            events.push(Event::MediaTimedOut(self.port.id()));
        }
        self.port.tick_receive(round, now, events);
        self.settle_socket(round, now, is_behind);
    }

    /// Ties the socket to the far end while it is heard: every other source would be refused all
    /// the same. Once it is quiet, all are heard again, so that a new source can be believed. A
    /// tied socket whose stream is calm is left to its ticks.
    fn settle_socket(&mut self, round: u64, now: Now, is_behind: bool) {
        // Checks of ICE come from any address at any time; a relay has a latch of its own.
        let routed = self.secure.as_ref().is_some_and(|secure| secure.is_routed());
        let many = routed || self.relay.is_some();
        let source = self.port.sole_source(now).filter(|_| !many);
        let tied_to = self.sockets.media.tied_to();
        let since = source.map(|_| *self.heard_since.get_or_insert(round));
        let age = since.map_or(0, |since| round.saturating_sub(since));
        let is_young = since.is_some() && age < YOUNG_ROUNDS;
        let turn = round + self.port.id().0;
        let look_every = if is_young { YOUNG_LOOK_EVERY_ROUNDS } else { LOOK_EVERY_ROUNDS };
        let is_look = turn.is_multiple_of(look_every);
        // Freed at once, tied now and then.
        if tied_to != source && (tied_to.is_some() || is_look) {
            self.sockets.media.tie(source.filter(|_| tied_to.is_none()));
            self.is_calm = false;
        } else if is_look {
            let is_watched_on = (turn / LOOK_EVERY_ROUNDS).is_multiple_of(WATCHED_ONE_LOOK_IN);
            let is_measured = if is_young { age >= MEASURED_ROUNDS } else { !is_watched_on };
            let can_wait = is_behind || is_measured;
            self.is_calm = tied_to.is_some() && can_wait && (self.port.is_calm() || is_behind);
        }
    }

    /// The sending half of a tick. A port that waits for its keys says nothing and plays nothing:
    /// what plays begins when it can be heard.
    pub(super) fn tick_send(
        &mut self,
        key: usize,
        round: u64,
        now: Now,
        sending: &mut Sending,
        events: &mut Vec<Event>,
    ) {
        let Sending { sound, outbox } = sending;
        let Some(secure) = &mut self.secure else {
            outbox.begin(key, 0);
            return self.port.tick_send(round, now, sound, outbox, events);
        };
        if secure.is_ready() {
            outbox.begin(key, MAX_OVERHEAD);
            self.port.tick_send(round, now, sound, outbox, events);
            protect(secure, now, outbox);
        }
    }

    /// Takes in a datagram of RTCP's own port; false when it is nothing of this port.
    pub(super) fn receive_report(
        &mut self,
        datagram: &mut [u8],
        from: SocketAddr,
        now: Now,
    ) -> bool {
        let Some(secure) = &mut self.secure else {
            return self.port.receive_report(datagram, from, now);
        };
        // Neither ICE nor DTLS is spoken here: browsers share one port.
        if rtcp::is_rtcp(datagram) {
            match secure.receive(datagram, from, now, &mut |_, _| {}) {
                Received::Media(plain) => return self.port.receive_report(plain, from, now),
                Received::Refused(Refusal::Early) => return true,
                Received::Handled | Received::Refused(_) => {}
            }
        }
        self.port.count_invalid();
        false
    }

    /// The last words of the port.
    pub(super) fn close(&mut self, key: usize, now: Now, sending: &mut Sending) {
        let outbox = &mut sending.outbox;
        let spare = if self.secure.is_some() { MAX_OVERHEAD } else { 0 };
        outbox.begin(key, spare);
        self.port.close(now, outbox);
        if let Some(secure) = &mut self.secure {
            protect(secure, now, outbox);
        }
    }

    fn tell_outcome(&mut self, events: &mut Vec<Event>) {
        let id = self.port.id();
        match self.secure.as_mut().and_then(|secure| secure.take_outcome()) {
            None => {}
            Some(Outcome::Ready(suite)) => events.push(Event::SecureMediaReady(id, suite)),
            Some(Outcome::Failed(failure)) => events.push(Event::SecureMediaFailed(id, failure)),
        }
    }
}

/// Encrypts what the port begun last has put in; what cannot be does not leave.
fn protect(secure: &mut SecureMedia, now: Now, outbox: &mut Outbox) {
    let routed = secure.is_routed().then(|| secure.destination(now));
    outbox.rewrite(|to, buffer, len| {
        let to = routed.unwrap_or(Some(to))?;
        Some((to, secure.protect(buffer, len)?))
    });
}

fn accepted(accepted: bool) -> Taken {
    if accepted { Taken::Media } else { Taken::Invalid }
}

#[cfg(test)]
mod tests;
