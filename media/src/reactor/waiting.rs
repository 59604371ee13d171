//! Packets that are due between two ticks of their port.
//!
//! A port ticks every 20 ms. Packets of 10, 30 and 50 ms are due every other time in the middle
//! between two ticks: they wait, ready to go, for the slot half a round later.

use std::net::SocketAddr;

use super::{Reactor, SLOTS};
use crate::clock::Now;
use crate::event::PortId;

/// A packet of RTP, ready to go.
struct Waiting {
    /// Of whom: the key may be another port's by then.
    id: PortId,
    key: usize,
    to: SocketAddr,
    octets: Vec<u8>,
}

/// Packets by the slot in which they are due.
#[derive(Default)]
pub(super) struct WaitingRoom {
    slots: [Vec<Waiting>; SLOTS],
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
        let octets = octets.to_vec();
        self.slots[(slot + SLOTS / 2) % SLOTS].push(Waiting { id, key, to, octets });
    }
}

impl Reactor {
    /// Sends what has waited for this slot.
    pub(super) fn send_waiting(&mut self, slot: usize, now: Now, deadline: Now) {
        let mut sent = 0;
        for packet in self.waiting.slots[slot].drain(..) {
            let Some(entry) = self.ports.get_mut(packet.key) else { continue };
            if entry.port.id() != packet.id {
                continue;
            }
            if entry.sockets.media.send(&packet.octets, &packet.to).is_ok() {
                sent += 1;
            } else {
                self.shared.figures.send_errors.add(1);
            }
        }
        if sent > 0 {
            self.shared.figures.count_sent(sent, now.saturating_sub(deadline));
        }
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
            let due: Vec<_> = (0..SLOTS).filter(|at| !room.slots[*at].is_empty()).collect();
            assert_eq!(due, [(slot + 5) % 10]);
            let packet = &room.slots[due[0]][0];
            assert_eq!((packet.id, packet.key, packet.to), (PortId(1), 7, to));
            assert_eq!(packet.octets, [slot as u8]);
        }
    }
}
