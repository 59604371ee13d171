//! The routing matrix: which ports every sink hears.
//!
//! Sinks are ports and recorders. Ports that are connected by routes, in whatever direction and
//! over however many of them, are one group: the reactor keeps a group in one slot of the wheel, so
//! that every member hears of every other one what was said in the same 20 ms.

use std::collections::HashSet;

/// Who takes what a port is heard saying. Numbers are keys of the reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sink {
    /// The far end of a port.
    Port(usize),
    /// A recording or a tap.
    Recorder(usize),
}

#[derive(Debug, Default)]
struct Node {
    /// Ports that are heard here; of a recorder, those of both sides.
    sources: Vec<usize>,
    /// Who hears it, or hears it fade away; empty for a recorder.
    sinks: Vec<Sink>,
    /// Sources that were not heard in the last frame: they are faded in.
    joining: Vec<usize>,
    /// Ports that are sources no more but were heard in the last frame: they are faded out.
    leaving: Vec<usize>,
}

/// What a sink hears in the next frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hearing<'a> {
    /// Its sources.
    pub sources: &'a [usize],
    /// Those of them that are new.
    pub joining: &'a [usize],
    /// Who was a source in the last frame.
    pub leaving: &'a [usize],
}

/// Routes from ports to sinks.
#[derive(Debug, Default)]
pub struct Matrix {
    ports: Vec<Node>,
    recorders: Vec<Node>,
}

impl Matrix {
    /// The ports that a sink hears.
    #[must_use]
    pub fn sources(&self, sink: Sink) -> &[usize] {
        self.known(sink).map_or(&[], |node| &node.sources)
    }

    /// What a port hears in the next frame, a change of its sources included.
    #[must_use]
    pub fn hearing(&self, port: usize) -> Hearing<'_> {
        self.ports.get(port).map_or_else(Hearing::default, |node| Hearing {
            sources: &node.sources,
            joining: &node.joining,
            leaving: &node.leaving,
        })
    }

    /// Ends a change of a port's sources, one frame after it was made; returns who left.
    pub fn settle(&mut self, port: usize) -> Vec<usize> {
        let Some(node) = self.ports.get_mut(port) else { return Vec::new() };
        node.joining.clear();
        let gone = std::mem::take(&mut node.leaving);
        for source in &gone {
            self.ports[*source].sinks.retain(|sink| *sink != Sink::Port(port));
        }
        gone
    }

    /// Who hears a port, or hears it fade away.
    #[must_use]
    pub fn sinks(&self, port: usize) -> &[Sink] {
        self.ports.get(port).map_or(&[], |node| &node.sinks)
    }

    /// How many hear a port.
    #[must_use]
    pub fn listeners(&self, port: usize) -> usize {
        self.sinks(port).len()
    }

    /// Lets a sink hear `sources` and nobody else. A port never hears itself, nor anybody twice.
    pub fn set(&mut self, sink: Sink, sources: &[usize]) {
        let mut wanted = Vec::with_capacity(sources.len());
        for source in sources {
            if sink != Sink::Port(*source) && !wanted.contains(source) {
                wanted.push(*source);
            }
        }
        let mut heard = std::mem::take(&mut self.node(sink).leaving);
        let never_heard = std::mem::take(&mut self.node(sink).joining);
        let former = std::mem::take(&mut self.node(sink).sources);
        for source in &former {
            if never_heard.contains(source) || matches!(sink, Sink::Recorder(_)) {
                self.node(Sink::Port(*source)).sinks.retain(|other| *other != sink);
            } else {
                heard.push(*source);
            }
        }
        for source in &wanted {
            let sinks = &mut self.node(Sink::Port(*source)).sinks;
            if !sinks.contains(&sink) {
                sinks.push(sink);
            }
        }
        let fades = matches!(sink, Sink::Port(_));
        let node = self.node(sink);
        node.joining = wanted.iter().filter(|source| !heard.contains(source)).copied().collect();
        node.joining.retain(|_| fades);
        node.leaving = heard.into_iter().filter(|source| !wanted.contains(source)).collect();
        node.sources = wanted;
    }

    /// Forgets a sink that is gone, and, of a port, that anybody heard it.
    pub fn remove(&mut self, sink: Sink) {
        self.set(sink, &[]);
        if let Sink::Port(port) = sink {
            self.settle(port);
            for listener in std::mem::take(&mut self.node(sink).sinks) {
                let node = self.node(listener);
                for ports in [&mut node.sources, &mut node.joining, &mut node.leaving] {
                    ports.retain(|source| *source != port);
                }
            }
        }
    }

    /// All that is connected with `start`, itself included.
    #[must_use]
    pub fn group(&self, start: Sink) -> Vec<Sink> {
        let mut group = vec![start];
        let mut known = HashSet::from([start]);
        let mut seen = 0;
        while let Some(sink) = group.get(seen).copied() {
            seen += 1;
            let Some(node) = self.known(sink) else { continue };
            let sources = node.sources.iter().map(|source| Sink::Port(*source));
            let sinks = node.sinks.iter().copied().filter(|other| {
                // Who only fades away here does not belong to the group any more.
                matches!(sink, Sink::Port(port) if !self.fades(*other, port))
            });
            for other in sources.chain(sinks) {
                if known.insert(other) {
                    group.push(other);
                }
            }
        }
        group
    }

    fn fades(&self, sink: Sink, source: usize) -> bool {
        self.known(sink).is_some_and(|node| node.leaving.contains(&source))
    }

    fn known(&self, sink: Sink) -> Option<&Node> {
        match sink {
            Sink::Port(key) => self.ports.get(key),
            Sink::Recorder(key) => self.recorders.get(key),
        }
    }

    fn node(&mut self, sink: Sink) -> &mut Node {
        let (nodes, key) = match sink {
            Sink::Port(key) => (&mut self.ports, key),
            Sink::Recorder(key) => (&mut self.recorders, key),
        };
        if nodes.len() <= key {
            nodes.resize_with(key + 1, Node::default);
        }
        &mut nodes[key]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(matrix: &Matrix, port: usize) -> Vec<Sink> {
        let mut group = matrix.group(Sink::Port(port));
        group.sort_unstable();
        group
    }

    #[test]
    fn a_sink_hears_what_it_was_last_told_to() {
        let mut matrix = Matrix::default();
        matrix.set(Sink::Port(1), &[2, 3, 2, 1]);
        assert_eq!(matrix.sources(Sink::Port(1)), [2, 3]);
        matrix.settle(1);
        matrix.set(Sink::Port(1), &[3, 4]);
        assert_eq!(matrix.sources(Sink::Port(1)), [3, 4]);
        let hearing = matrix.hearing(1);
        assert_eq!((hearing.joining, hearing.leaving), (&[4][..], &[2][..]));
        assert_eq!(matrix.listeners(2), 1);
        assert_eq!(matrix.settle(1), [2]);
        let listeners: Vec<_> = (0..6).map(|port| matrix.listeners(port)).collect();
        assert_eq!(listeners, [0, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn changes_within_a_frame_fade_what_was_heard_to_what_will_be() {
        let mut matrix = Matrix::default();
        matrix.set(Sink::Port(1), &[2]);
        matrix.settle(1);
        matrix.set(Sink::Port(1), &[3]);
        matrix.set(Sink::Port(1), &[4, 2]);
        let hearing = matrix.hearing(1);
        assert_eq!((hearing.joining, hearing.leaving), (&[4][..], &[][..]));
        assert_eq!(matrix.listeners(3), 0);
        matrix.set(Sink::Port(1), &[]);
        let hearing = matrix.hearing(1);
        assert_eq!((hearing.joining, hearing.leaving), (&[][..], &[2][..]));
        assert_eq!(group(&matrix, 2), [Sink::Port(2)]);
        matrix.remove(Sink::Port(2));
        assert!(matrix.hearing(1).leaving.is_empty());
    }

    #[test]
    fn a_group_reaches_over_recorders() {
        let mut matrix = Matrix::default();
        matrix.set(Sink::Port(1), &[2]);
        matrix.set(Sink::Recorder(0), &[2, 3]);
        matrix.set(Sink::Port(4), &[5]);
        let all = [Sink::Port(1), Sink::Port(2), Sink::Port(3), Sink::Recorder(0)];
        assert_eq!(group(&matrix, 3), all);
        assert_eq!(group(&matrix, 9), [Sink::Port(9)]);
        matrix.remove(Sink::Recorder(0));
        assert_eq!(group(&matrix, 3), [Sink::Port(3)]);
        matrix.remove(Sink::Port(5));
        assert!(matrix.sources(Sink::Port(4)).is_empty());
    }

    #[test]
    fn thousands_that_hear_one_are_a_group() {
        let mut matrix = Matrix::default();
        for port in 1..=4000 {
            matrix.set(Sink::Port(port), &[0]);
        }
        let from_either = [0, 4000].map(|port| group(&matrix, port));
        assert_eq!(from_either[0], from_either[1]);
        assert_eq!(from_either[0].len(), 4001);
        matrix.set(Sink::Port(7), &[]);
        matrix.settle(7);
        assert_eq!(group(&matrix, 0).len(), 4000);
    }

    proptest! {
        /// Both directions of every route agree, whatever is told.
        #[test]
        fn sinks_and_sources_agree(
            steps in proptest::collection::vec(
                (0usize..6, prop::option::of(prop::collection::vec(0usize..6, 0..4))), 0..40,
            ),
        ) {
            let mut matrix = Matrix::default();
            for (step, (key, sources)) in steps.into_iter().enumerate() {
                if step % 3 == 0 {
                    matrix.settle(key);
                }
                let sink = if key % 3 == 0 { Sink::Recorder(key) } else { Sink::Port(key) };
                match sources {
                    Some(sources) => matrix.set(sink, &sources),
                    None => matrix.remove(sink),
                }
                for port in 0..6 {
                    prop_assert!(!matrix.sources(Sink::Port(port)).contains(&port));
                    let heard_by = (0..6).filter(|sink| {
                        let hearing = matrix.hearing(*sink);
                        hearing.sources.contains(&port) || hearing.leaving.contains(&port)
                    });
                    let recorders = matrix.recorders.iter();
                    let recorded = recorders.filter(|node| node.sources.contains(&port)).count();
                    prop_assert_eq!(matrix.listeners(port), heard_by.count() + recorded);
                }
            }
        }
    }
}
