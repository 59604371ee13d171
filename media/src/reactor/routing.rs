//! Routes in the reactor: who hears whom, and the slots of the wheel in which they sit.

use std::cmp::Reverse;

use slab::Slab;

use super::{Entry, Reactor};
use crate::codec::{Encoded, Pcm};
use crate::event::PortId;
use crate::matrix::Sink;
use crate::mixer::Sources;
use crate::wheel::SLOTS;

impl Sources for Slab<Entry> {
    fn encoded(&self, source: usize, round: u64) -> Option<&Encoded> {
        self.get(source).and_then(|entry| entry.port.encoded(round))
    }

    fn pcm(&mut self, source: usize, round: u64) -> Option<&Pcm> {
        self.get_mut(source).and_then(|entry| entry.port.pcm(round))
    }
}

impl Reactor {
    /// Keys of those ports that are still open.
    pub(super) fn keys(&self, ports: &[PortId]) -> Vec<usize> {
        ports.iter().filter_map(|id| self.port_keys.get(id).copied()).collect()
    }

    /// Changes what several ports hear, all between the same two frames.
    pub(super) fn set_routes(&mut self, routes: &[(PortId, Vec<PortId>)]) {
        let routes = routes.iter().filter_map(|(id, sources)| {
            let sink = self.port_keys.get(id).copied()?;
            Some((Sink::Port(sink), self.keys(sources)))
        });
        let routes: Vec<_> = routes.collect();
        self.route(&routes);
        for (sink, _) in routes {
            self.gather(sink);
        }
    }

    /// Lets sinks hear these ports. Who is heard for the first time begins to listen; who was
    /// heard before by whomever just goes on.
    pub(super) fn route(&mut self, routes: &[(Sink, Vec<usize>)]) {
        let mut concerned = Vec::new();
        for (sink, sources) in routes {
            concerned.extend_from_slice(self.matrix.sources(*sink));
            concerned.extend_from_slice(sources);
            self.matrix.set(*sink, sources);
        }
        for port in concerned {
            let listeners = self.matrix.listeners(port);
            self.ports[port].port.set_listeners(listeners);
        }
    }

    /// Ends a change of what a port hears, after the frame in which it was made.
    pub(super) fn settle_routes(&mut self, key: usize) {
        for port in self.matrix.settle(key) {
            let listeners = self.matrix.listeners(port);
            self.ports[port].port.set_listeners(listeners);
        }
    }

    /// Takes a port that closes out of all routes.
    pub(super) fn leave_routes(&mut self, key: usize) {
        self.route(&[(Sink::Port(key), Vec::new())]);
        for sink in self.matrix.sinks(key) {
            if let Sink::Recorder(recorder) = sink
                && let Some(recorder) = self.recorders.get_mut(*recorder)
            {
                recorder.sides.iter_mut().for_each(|side| side.retain(|port| *port != key));
            }
        }
        self.settle_routes(key);
        self.matrix.remove(Sink::Port(key));
    }

    /// Brings all that is connected with a sink into one slot: that in which most of it sits, so
    /// that a newcomer moves and those who talk already are left alone. Between slots of as many it
    /// is the emptier one: pairs would else gather in every other slot, whose last packets leave late.
    pub(super) fn gather(&mut self, start: Sink) {
        let group = self.matrix.group(start);
        let mut members = [0; SLOTS];
        for sink in &group {
            // A port whose slot changes has its packets shifted; to a recorder it is all the same.
            let weight = if matches!(sink, Sink::Port(_)) { group.len() } else { 1 };
            if let Some(slot) = self.slot(*sink) {
                members[slot] += weight;
            }
        }
        let room = |slot: usize| Reverse(self.slots[slot].ports.len());
        let Some(slot) = (0..members.len()).max_by_key(|slot| (members[*slot], room(*slot))) else {
            return;
        };
        let (mut ports, mut recorders) = (Vec::new(), Vec::new());
        for sink in group {
            if self.slot(sink).is_some_and(|former| former != slot) && self.settle(sink, slot) {
                match sink {
                    Sink::Port(key) => ports.push(key),
                    Sink::Recorder(key) => recorders.push(key),
                }
            }
        }
        if !ports.is_empty() || !recorders.is_empty() {
            let (_, round) = self.wheel.next();
            self.tick_members(&ports, &recorders, round, None);
        }
    }

    fn slot(&self, sink: Sink) -> Option<usize> {
        match sink {
            Sink::Port(key) => self.ports.get(key).map(|entry| entry.slot),
            Sink::Recorder(key) => self.recorders.get(key).map(|recorder| recorder.slot),
        }
    }

    /// Moves a sink to another slot; true when it would miss a frame by that.
    ///
    /// The slot that it leaves would have come in this round and the one that it goes to has been:
    /// it gets its turn at once. The other way round its turn comes twice in a round, and the
    /// second one is passed over. Either way it has one turn in each round, and no frame is lost or
    /// doubled.
    fn settle(&mut self, sink: Sink, slot: usize) -> bool {
        let (former, members) = match sink {
            Sink::Port(key) => {
                let former = std::mem::replace(&mut self.ports[key].slot, slot);
                self.send_waiting_of(key, former);
                self.slots[former].ports.retain(|port| *port != key);
                (former, &mut self.slots[slot].ports)
            }
            Sink::Recorder(key) => {
                let former = std::mem::replace(&mut self.recorders[key].slot, slot);
                self.slots[former].recorders.retain(|recorder| *recorder != key);
                (former, &mut self.slots[slot].recorders)
            }
        };
        let (Sink::Port(key) | Sink::Recorder(key)) = sink;
        members.push(key);
        let (next, _) = self.wheel.next();
        former >= next && slot < next
    }
}

#[cfg(test)]
mod tests;
