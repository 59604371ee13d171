//! Datagrams of DTLS, which cost a hundred times what a packet of audio does: one is taken at each
//! wake-up, so that many browsers that come at once delay nobody's audio.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::Reactor;
use crate::clock::Now;
use crate::event::PortId;

/// Datagrams that wait, 2 ms each; the sender of one that finds no room says it again.
const MAX_WAITING: usize = 250;

/// The datagrams that wait.
#[derive(Default)]
pub(super) struct Handshakes {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    key: usize,
    port: PortId,
    from: SocketAddr,
    datagram: Box<[u8]>,
}

impl Handshakes {
    pub(super) fn push(&mut self, key: usize, port: PortId, datagram: &[u8], from: SocketAddr) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(Waiting { key, port, from, datagram: datagram.into() });
        }
    }
}

impl Reactor {
    /// Takes one datagram that waits.
    pub(super) fn shake_hands(&mut self, now: Now) {
        if let Some(Waiting { key, port, from, datagram }) = self.handshakes.waiting.pop_front()
            && let Some(entry) = self.ports.get_mut(key).filter(|entry| entry.port.id() == port)
        {
            entry.shake_hands(&datagram, from, now, &mut self.events);
        }
    }
}
