//! Counts of the whole engine, written by its threads and read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts; each is exact, together they are no snapshot.
        #[derive(Debug, Default)]
        pub struct Figures {
            $($(#[$doc])* pub $name: Count,)*
        }

        impl Figures {
            /// All counts by name.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

figures! {
    /// Open ports.
    ports,
    /// Recordings in progress.
    recordings,
    /// RTP packets handed to the kernel.
    packets_sent,
    /// Valid RTP packets received.
    packets_received,
    /// Datagrams that are no valid RTP of their port.
    packets_invalid,
    /// RTCP reports handed to the kernel.
    reports_sent,
    /// RTCP datagrams received on ports of their own.
    reports_received,
    /// Packets the kernel refused.
    send_errors,
    /// Packets sent up to 1 ms after their deadline.
    sent_within_1_ms,
    /// Packets sent later than that, up to 5 ms after their deadline.
    sent_within_5_ms,
    /// Packets sent later than 5 ms after their deadline.
    sent_later,
    /// The largest lateness.
    max_lateness_us,
    /// Rounds of 20 ms left out because the thread was held up for too long.
    skipped_rounds,
    /// Recorded frames replaced by silence because the disk was too slow.
    dropped_frames,
    /// Taps in progress.
    taps,
    /// Frames of taps that nobody took in time.
    dropped_tap_frames,
    /// Times the reactor thread gave up its real-time priority, since it needed nearly all of a core.
    priority_yields,
    /// CPU time of the reactor thread.
    reactor_cpu_us,
    /// Panics, each of which has ended a call; standard error has what they say.
    faults,
}

/// One count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to the count.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets the count.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises the count to `value` when it is lower.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// Reads the count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Figures {
    /// Counts packets sent with the same lateness.
    pub fn count_sent(&self, packets: u64, lateness: Duration) {
        let lateness_us = lateness.as_micros() as u64;
        self.packets_sent.add(packets);
        match lateness_us {
            0..=1000 => self.sent_within_1_ms.add(packets),
            1001..=5000 => self.sent_within_5_ms.add(packets),
            _ => self.sent_later.add(packets),
        }
        self.max_lateness_us.raise(lateness_us);
    }
}
