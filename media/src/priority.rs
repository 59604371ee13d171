//! The priority of a thread that has to be in time.
//!
//! The kernel lets real-time threads have 95 % of a core in each second and then stops them until the
//! second is over (`kernel.sched_rt_runtime_us`): for 50 ms no packet would leave, and what is late
//! by then keeps the thread busy and has it stopped again. So it stays below that of its own accord:
//! once it has needed more than nine tenths of a core for a while it is an ordinary thread for some
//! milliseconds, and goes on without a break unless others want the core.

use std::time::Duration;

use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::clock::Now;

/// Below ordinary threads and above what keeps the machine alive.
const PREFERRED_NICE: i32 = -10;

/// Share of a core that may be used in real time for long, in percent. The kernel allows 95.
const SHARE_PERCENT: u32 = 90;

/// What may be saved up for bursts. With it a second has 940 ms at most.
const MOST_SAVED: Duration = Duration::from_millis(40);

/// What has to be saved up before a thread that has used up all is one of real time again.
const ENOUGH: Duration = Duration::from_millis(10);

/// The priority of the calling thread.
#[derive(Debug)]
pub struct Priority {
    /// It may run in real time.
    is_allowed: bool,
    is_real_time: bool,
    ration: Ration,
}

impl Priority {
    /// Asks that the calling thread be run before all ordinary ones of the machine, whoever they
    /// belong to; where that is not allowed, before those of this process at least. Without either
    /// right it stays as it is, and is late more often on a busy machine.
    #[must_use]
    pub fn ask() -> Self {
        prefer();
        let is_allowed = run_in_real_time();
        Self { is_allowed, is_real_time: is_allowed, ration: Ration::default() }
    }

    /// Takes note of how long the calling thread has slept by now; CPU time would say less, at the
    /// price of a call into the kernel. True when it gives up its priority for a while.
    pub fn settle(&mut self, now: Now, slept: Duration) -> bool {
        let awake = now.saturating_sub(slept);
        let may_be = self.ration.take(now, awake, self.is_real_time) && self.is_allowed;
        if may_be == self.is_real_time {
            return false;
        }
        if may_be {
            self.is_real_time = run_in_real_time();
            return false;
        }
        // What is nicer than that is not allowed to some; the policy is set all the same.
        let ordinary = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        let _set =
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Max, ordinary);
        prefer();
        self.is_real_time = false;
        true
    }
}

/// Has the calling thread run before others of its session.
fn prefer() {
    // Linux takes "this process" as the calling thread, setpriority(2).
    let _allowed = rustix::process::setpriority_process(None, PREFERRED_NICE);
}

/// The least of the real-time priorities is above every ordinary thread, and below what the kernel
/// runs for itself.
fn run_in_real_time() -> bool {
    let round_robin = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, round_robin).is_ok()
}

/// How much more a thread may use in real time.
#[derive(Debug)]
struct Ration {
    saved: Duration,
    at: Now,
    awake: Duration,
}

impl Default for Ration {
    fn default() -> Self {
        Self { saved: MOST_SAVED, at: Now::ZERO, awake: Duration::ZERO }
    }
}

impl Ration {
    /// Notes the time awake so far, of late in real time or not; false while the ration is used up.
    fn take(&mut self, now: Now, awake: Duration, was_real_time: bool) -> bool {
        if self.at.is_zero() {
            (self.at, self.awake) = (now, awake); // what was before is not known
        }
        let earned = now.saturating_sub(self.at) * SHARE_PERCENT / 100;
        let used = if was_real_time { awake.saturating_sub(self.awake) } else { Duration::ZERO };
        self.saved = (self.saved + earned).saturating_sub(used).min(MOST_SAVED);
        (self.at, self.awake) = (now, awake);
        let needed = if was_real_time { Duration::ZERO } else { ENOUGH };
        self.saved > needed
    }
}

#[cfg(test)]
mod tests {
    use thread_priority::thread_schedule_policy;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The milliseconds in which a thread that needs a share of its core runs in real time.
    fn real_time_ms(share_percent: u32) -> Vec<u32> {
        let mut ration = Ration::default();
        let mut is_real_time = true;
        let mut found = Vec::new();
        for ms in 0..3000 {
            is_real_time =
                ration.take(1000 * MS + ms * MS, ms * MS * share_percent / 100, is_real_time);
            found.extend(is_real_time.then_some(ms));
        }
        found
    }

    #[test]
    fn a_thread_with_time_to_spare_stays_in_real_time() {
        assert_eq!(real_time_ms(89).len(), 3000);
    }

    #[test]
    fn a_busy_thread_never_has_so_much_that_the_kernel_would_stop_it() {
        for share_percent in [92, 95, 100] {
            let ms = real_time_ms(share_percent);
            for second in 0..2000 {
                let within = ms.iter().filter(|ms| (second..second + 1000).contains(*ms)).count();
                let cpu_ms = within * share_percent as usize / 100;
                assert!((880..=945).contains(&cpu_ms), "{share_percent} %: {cpu_ms} ms");
            }
        }
    }

    #[test]
    fn the_policy_follows_the_ration() {
        let mut priority = Priority::ask();
        let real_time = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
        let ordinary = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        let allowed = if priority.is_allowed { real_time } else { ordinary };
        let found = || thread_schedule_policy().unwrap();
        assert_eq!(found(), allowed);
        assert!(!priority.settle(1000 * MS, 10 * MS));
        assert!(!priority.settle(1390 * MS, 10 * MS));
        assert_eq!(found(), allowed);
        assert_eq!(priority.settle(1401 * MS, 10 * MS), priority.is_allowed);
        assert!(!priority.settle(1405 * MS, 10 * MS));
        assert_eq!(found(), ordinary);
        assert!(!priority.settle(1420 * MS, 10 * MS));
        assert_eq!(found(), allowed);
    }
}
