//! Datagrams from one far end to another, as they are.

use std::net::SocketAddr;
use std::time::Duration;

use super::Reactor;
use super::entry::Taken;
use crate::clock::Now;
use crate::event::PortId;
use crate::relay::Relay;

impl Reactor {
    /// Lets two ports hand each other what comes; relays that they were in before end.
    pub(super) fn set_relay(
        &mut self,
        ends: [(PortId, SocketAddr); 2],
        timeout: Duration,
        now: Now,
    ) {
        let keys = ends.map(|(id, _)| self.port_keys.get(&id).copied());
        let [Some(one), Some(other)] = keys else { return };
        if one == other {
            return;
        }
        for (key, peer, (_, remote)) in [(one, other, ends[0]), (other, one, ends[1])] {
            self.end_relay(key, Some(peer));
            let relay = Relay::new(peer, remote, timeout, now);
            if let Some(entry) = self.ports.get_mut(key) {
                entry.relay = Some(Box::new(relay));
            }
        }
    }

    /// Takes the port out of its relay, and its peer with it, unless that is the one to `keep`.
    pub(super) fn end_relay(&mut self, key: usize, keep: Option<usize>) {
        let Some(relay) = self.ports.get_mut(key).and_then(|entry| entry.relay.take()) else {
            return;
        };
        if Some(relay.peer) != keep
            && let Some(peer) = self.ports.get_mut(relay.peer)
        {
            peer.relay = None;
        }
    }

    /// Hands a datagram on that has come in `whole`.
    pub(super) fn relay(
        &mut self,
        key: usize,
        datagram: &[u8],
        whole: bool,
        from: SocketAddr,
        now: Now,
    ) -> Taken {
        let Some(relay) = self.ports.get_mut(key).and_then(|entry| entry.relay.as_mut()) else {
            return Taken::Invalid;
        };
        if !relay.accept(from, now) || !whole {
            return Taken::Invalid;
        }
        let peer = relay.peer;
        if let Some(peer) = self.ports.get_mut(peer)
            && let Some(side) = peer.relay.as_mut()
            && let Some(to) = side.destination()
        {
            if peer.sockets.media.send(datagram, &to).is_ok() {
                side.count_sent();
            } else {
                self.shared.figures.send_errors.add(1);
            }
        }
        Taken::Media
    }
}
