//! Packets that are due between two ticks of their port.
//!
//! A port ticks every 20 ms. Packets of 10, 30 and 50 ms are due every other time in the middle
//! between two ticks: they wait, ready to go, for the slot half a round later.

use std::net::SocketAddr;
use std::ops::Range;

use super::turn::Left;
use super::{Reactor, SLOTS};
use crate::clock::Now;
use crate::event::PortId;
use crate::outbox::Channel;

/// A packet of RTP, ready to go.
struct Waiting {
    /// Of whom: the key may be another port's by then.
    id: PortId,
    key: usize,
    to: SocketAddr,
    octets: Range<usize>,
}

/// Packets that leave together, in room that is used again and again.
#[derive(Default)]
struct Shelf {
    packets: Vec<Waiting>,
    octets: Vec<u8>,
}

/// Packets by the slot in which they are due.
#[derive(Default)]
pub(super) struct WaitingRoom {
    slots: [Shelf; SLOTS],
}

/// The slot in which packets are due that a port of `slot` has let wait.
fn due(slot: usize) -> usize {
    (slot + SLOTS / 2) % SLOTS
}

impl WaitingRoom {
    /// Keeps a packet of a port that ticks in `slot` for half a round.
    pub(super) fn keep(
        &mut self,
        slot: usize,
        id: PortId,
        key: usize,
        to: SocketAddr,
        octets: &[u8],
    ) {
        let shelf = &mut self.slots[due(slot)];
        let start = shelf.octets.len();
        shelf.octets.extend_from_slice(octets);
        shelf.packets.push(Waiting { id, key, to, octets: start..shelf.octets.len() });
    }
}

impl Reactor {
    /// Sends what has waited for this slot.
    pub(super) fn send_waiting(&mut self, slot: usize, deadline: Now) {
        if self.waiting.slots[slot].packets.is_empty() {
            return;
        }
        self.send_from(slot, |_| true).count(&self.shared.figures, Some(deadline));
        self.waiting.slots[slot].octets.clear();
    }

    /// Sends what a port has let wait that leaves `slot`: its next turn may come before it is due.
    pub(super) fn send_waiting_of(&mut self, key: usize, slot: usize) {
        let left = self.send_from(due(slot), |packet| packet.key == key);
        left.count(&self.shared.figures, None);
    }

    fn send_from(&mut self, slot: usize, is_meant: impl Fn(&Waiting) -> bool) -> Left {
        let mut left = Left::default();
        let Shelf { packets, octets } = &mut self.waiting.slots[slot];
        for packet in packets.extract_if(.., |packet| is_meant(packet)) {
            if let Some(entry) = self.ports.get_mut(packet.key)
                && entry.port.id() == packet.id
            {
                let octets = &octets[packet.octets];
                left.send(&mut entry.sockets, Channel::Media, &packet.to, octets);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_waits_for_half_a_round() {
        let to = SocketAddr::from(([127, 0, 0, 1], 4000));
        for slot in 0..SLOTS {
            let mut room = WaitingRoom::default();
            room.keep(slot, PortId(1), 7, to, &[slot as u8]);
            let kept: Vec<_> =
                (0..SLOTS).filter(|at| !room.slots[*at].packets.is_empty()).collect();
            assert_eq!(kept, [(slot + 5) % 10]);
            let Shelf { packets, octets } = &room.slots[kept[0]];
            assert_eq!((packets[0].id, packets[0].key, packets[0].to), (PortId(1), 7, to));
            assert_eq!(octets[packets[0].octets.clone()], [slot as u8]);
        }
    }
}
