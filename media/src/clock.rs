//! The monotonic clock, sleeping until a point of it, and being woken in time.

use std::time::Duration;

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Below ordinary threads and above what keeps the machine alive.
const PREFERRED_NICE: i32 = -10;

/// A point of the monotonic clock: the time since its start.
pub type Now = Duration;

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // Both clocks count up from zero and nanoseconds stay below 10^9.
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Reads the monotonic clock.
#[must_use]
pub fn now() -> Now {
    read(ClockId::Monotonic)
}

/// From the year 1900, where NTP counts from, to 1970.
const NTP_EPOCH: Duration = Duration::from_secs(2_208_988_800);

/// What the monotonic clock lacks to wall-clock time counted from 1900.
#[must_use]
pub fn behind_1900() -> Duration {
    (NTP_EPOCH + read(ClockId::Realtime)).saturating_sub(now())
}

/// CPU time the calling thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Asks that the calling thread be run before all ordinary ones of the machine, whoever they belong
/// to; where that is not allowed, before those of this process at least. Without either right it
/// stays as it is, and is late more often on a busy machine.
pub fn prefer_thread() {
    // The least of the real-time priorities is above every ordinary thread, and below what the
    // kernel runs for itself. The kernel keeps a share of each core for ordinary threads.
    let round_robin = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let thread = thread_native_id();
    if set_thread_priority_and_policy(thread, ThreadPriority::Min, round_robin).is_err() {
        // Linux takes "this process" as the calling thread, setpriority(2).
        let _allowed = rustix::process::setpriority_process(None, PREFERRED_NICE);
    }
}

/// Sleeps until `deadline`, not at all when it has passed; a signal may end the sleep early.
pub fn sleep_until(deadline: Now) {
    let request = Timespec {
        tv_sec: deadline.as_secs().cast_signed(),
        tv_nsec: deadline.subsec_nanos().into(),
    };
    let _interrupted = clock_nanosleep_absolute(ClockId::Monotonic, &request);
}
