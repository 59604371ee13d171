//! The 20 ms wheel: ten slots of 2 ms on absolute deadlines.
//!
//! Every port and every recording sits in one slot. Deadlines are computed from the origin, never
//! from the last wake-up, so lateness does not add up.

use std::time::Duration;

use crate::clock::Now;

/// Slots in a round of 20 ms.
pub const SLOTS: usize = 10;

/// Time between two slots.
pub const SLOT: Duration = Duration::from_millis(2);

/// Behind by more than this, whole rounds are left out: late audio would only be thrown away.
const CATCH_UP_LIMIT: Duration = Duration::from_millis(100);

/// A slot that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Which slot.
    pub slot: usize,
    /// Rounds since the origin; RTP timestamps follow it.
    pub round: u64,
    /// When it was due.
    pub deadline: Now,
}

/// Tells which slots are due.
#[derive(Debug)]
pub struct Wheel {
    origin: Now,
    next: u64,
    skipped_rounds: u64,
}

impl Wheel {
    /// A wheel whose first slot is due at `origin`.
    #[must_use]
    pub fn new(origin: Now) -> Self {
        Self { origin, next: 0, skipped_rounds: 0 }
    }

    /// When the next slot is due.
    #[must_use]
    pub fn deadline(&self) -> Now {
        // 2 ms * u32::MAX are 99 days, so the multiplication is done in nanoseconds.
        self.origin + Duration::from_nanos(self.next * SLOT.as_nanos() as u64)
    }

    /// Takes the next slot if it is due.
    pub fn pop_due(&mut self, now: Now) -> Option<Tick> {
        let late = now.checked_sub(self.deadline())?;
        if late > CATCH_UP_LIMIT {
            let rounds = (late.as_nanos() / (SLOT.as_nanos() * SLOTS as u128)) as u64;
            self.skipped_rounds += rounds;
            self.next += rounds * SLOTS as u64;
        }
        let (slot, round) = self.next();
        let tick = Tick { slot, round, deadline: self.deadline() };
        self.next += 1;
        Some(tick)
    }

    /// The slot that comes next, and its round.
    #[must_use]
    pub fn next(&self) -> (usize, u64) {
        ((self.next % SLOTS as u64) as usize, self.next / SLOTS as u64)
    }

    /// Goes on after an idle time, without counting it as lateness.
    pub fn resume(&mut self, now: Now) {
        let since_origin = now.saturating_sub(self.origin).as_nanos();
        self.next = self.next.max(since_origin.div_ceil(SLOT.as_nanos()) as u64);
    }

    /// Rounds left out because the thread was held up too long.
    #[must_use]
    pub fn skipped_rounds(&self) -> u64 {
        self.skipped_rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn slots_come_on_absolute_deadlines() {
        let mut wheel = Wheel::new(1000 * MS);
        assert_eq!(wheel.pop_due(999 * MS), None);
        for index in 0..25u32 {
            let deadline = (1000 + 2 * index) * MS;
            // Waking 1 ms late each time does not move later deadlines.
            let tick = wheel.pop_due(deadline + MS).unwrap();
            assert_eq!(tick.deadline, deadline);
            assert_eq!(tick.slot, index as usize % SLOTS);
            assert_eq!(tick.round, u64::from(index) / SLOTS as u64);
            assert_eq!(wheel.pop_due(deadline + MS), None);
            assert_eq!(wheel.next().0, (tick.slot + 1) % SLOTS);
        }
    }

    #[test]
    fn a_short_delay_is_caught_up() {
        let mut wheel = Wheel::new(Duration::ZERO);
        let due = std::iter::from_fn(|| wheel.pop_due(50 * MS)).count();
        assert_eq!((due, wheel.skipped_rounds()), (26, 0));
    }

    #[test]
    fn a_long_delay_leaves_out_whole_rounds() {
        let mut wheel = Wheel::new(Duration::ZERO);
        assert_eq!(wheel.pop_due(Duration::ZERO).unwrap().slot, 0);
        let tick = wheel.pop_due(1001 * MS).unwrap();
        assert_eq!(tick.slot, 1);
        assert_eq!(wheel.skipped_rounds(), 49);
        assert!(1001 * MS - tick.deadline < 20 * MS);
    }

    #[test]
    fn idle_time_is_no_lateness() {
        let mut wheel = Wheel::new(Duration::ZERO);
        wheel.resume(9999 * MS);
        assert_eq!(wheel.deadline(), 10_000 * MS);
        assert_eq!(wheel.skipped_rounds(), 0);
    }
}
