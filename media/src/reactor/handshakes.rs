//! Datagrams of DTLS, which cost a hundred times what a packet of audio does: one is taken at each
//! wake-up, so that many browsers that come at once delay nobody's audio.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::{Reactor, faults};
use crate::clock::Now;
use crate::event::PortId;

/// Datagrams that wait, 2 ms each; the sender of one that finds no room says it again.
const MAX_WAITING: usize = 250;

/// Of these of one port, more than a flight has: a far end that floods its port delays itself, not
/// the handshakes of all others.
const MAX_WAITING_OF_PORT: usize = 16;

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
        let of_this_port = self.waiting.iter().filter(|waiting| waiting.port == port).count();
        if self.waiting.len() < MAX_WAITING && of_this_port < MAX_WAITING_OF_PORT {
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
            let events = &mut self.events;
            if faults::caught(|| entry.shake_hands(&datagram, from, now, events)).is_none() {
                self.note_faulty(&[key]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_flooded_leaves_room_to_others() {
        let mut handshakes = Handshakes::default();
        let from = SocketAddr::from(([192, 0, 2, 1], 4000));
        for _ in 0..1000 {
            handshakes.push(1, PortId(1), b"flood", from);
        }
        handshakes.push(2, PortId(2), b"hello", from);
        let of_other = handshakes.waiting.iter().position(|waiting| waiting.port == PortId(2));
        assert_eq!(of_other, Some(MAX_WAITING_OF_PORT));
    }
}
