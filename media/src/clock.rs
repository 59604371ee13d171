//! The monotonic clock, and sleeping until a point of it.

use std::time::Duration;

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};
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

/// Sleeps until `deadline`, not at all when it has passed; a signal may end the sleep early. Returns
/// how long it was.
pub fn sleep_until(deadline: Now) -> Duration {
    let began = now();
    if began >= deadline {
        return Duration::ZERO;
    }
    let request = Timespec {
        tv_sec: deadline.as_secs().cast_signed(),
        tv_nsec: deadline.subsec_nanos().into(),
    };
    let _interrupted = clock_nanosleep_absolute(ClockId::Monotonic, &request);
    now().saturating_sub(began)
}
