//! Defects of ours that come up while packets are moved: a panic ends the port that it came up on,
//! and no other call. What it says is on standard error, where the panic hook has written it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Reactor;
use crate::clock::Now;
use crate::event::{Event, PortId, WakingQueue};

/// Does some work; None when it panics. What it has changed is to be thrown away then.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Does the work of each item, and of those that follow one that panics; returns those that have.
pub(super) fn each<T: Copy>(items: &[T], mut work: impl FnMut(T)) -> Vec<T> {
    let mut faulty = Vec::new();
    let mut rest = items.iter();
    // Caught around all of them: without a panic it costs nothing an item.
    loop {
        let mut present = None;
        let ended = caught(|| {
            for item in rest.by_ref() {
                present = Some(*item);
                work(*item);
            }
        });
        match (ended, present) {
            (None, Some(item)) => faulty.push(item),
            _ => return faulty,
        }
    }
}

/// Runs the reactor, and says so when it ends by a panic: nothing moves packets any more then.
pub(crate) fn watched(events: &WakingQueue<Event>, run: impl FnOnce()) {
    if caught(run).is_none() {
        events.push(Event::Failed);
    }
}

impl Reactor {
    /// Notes ports on which a panic came up; they are closed before the next turn.
    pub(super) fn note_faulty(&mut self, keys: &[usize]) {
        if keys.is_empty() {
            return;
        }
        let ids = keys.iter().filter_map(|key| self.ports.get(*key)).map(|entry| entry.port.id());
        self.faulty.extend(ids);
        self.shared.figures.faults.add(keys.len() as u64);
    }

    /// Notes those whose audio a recorder has stumbled over: it cannot be told which of them it was.
    pub(super) fn note_faulty_sources(&mut self, recorder: usize) {
        let sources = self.recorders.get(recorder).map(|recorder| recorder.sides.concat());
        self.note_faulty(&sources.unwrap_or_default());
    }

    /// Closes them.
    pub(super) fn end_faulty(&mut self, now: Now) {
        let faulty: Vec<PortId> = std::mem::take(&mut self.faulty);
        for id in faulty {
            self.close(id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_its_own_item_alone() {
        let mut done = Vec::new();
        let faulty = each(&[1, 2, 3, 4, 5], |item| {
            assert!(item % 2 == 1, "an even one");
            done.push(item);
        });
        assert_eq!((done, faulty), (vec![1, 3, 5], vec![2, 4]));
        assert!(each(&[0; 0], |_| {}).is_empty());
    }

    #[test]
    fn the_end_of_the_thread_is_told() {
        let events = WakingQueue::new().unwrap();
        watched(&events, || {});
        assert_eq!(events.drain().count(), 0);
        watched(&events, || panic!("on purpose"));
        assert!(matches!(events.drain().collect::<Vec<_>>()[..], [Event::Failed]));
    }
}
