//! How long before their turn packets come, and what follows for the delay.

/// Reads in a window, 1 s.
const WINDOW_READS: u32 = 50;

/// Windows looked back on before the delay falls.
const CALM_WINDOWS: usize = 16;

/// Margin left to the latest packet when the delay falls, as a share of 20 ms: 10 ms.
const SAFETY_DIVISOR: i32 = 2;

/// The measured spread falls by this share a window.
const SPREAD_DECAY_DIVISOR: i32 = 8;

/// A margin beyond this, 640 ms, says no more than that: one packet with a wrong time must not be
/// remembered for a minute.
const MOST_FRAMES: i32 = 32;

/// Margins in RTP ticks, over windows of a second in which packets came.
#[derive(Debug)]
pub(super) struct Margins {
    frame_ticks: i32,
    reads: u32,
    count: i32,
    sum: i64,
    lowest: i32,
    /// Lowest margins of former windows, the latest overwriting the oldest.
    history: [i32; CALM_WINDOWS],
    next: usize,
    calm: usize,
    mean: i32,
    spread: i32,
    /// The delay may fall by a frame.
    surplus: bool,
    /// Reads for which a missing frame was waited for, to leave out that one.
    waited: u32,
    /// Overtaken packets of this window that came too late to be played.
    late: u32,
}

impl Margins {
    pub(super) fn new(frame_ticks: u32) -> Self {
        Self {
            frame_ticks: frame_ticks.cast_signed(),
            reads: 0,
            count: 0,
            sum: 0,
            lowest: 0,
            history: [0; CALM_WINDOWS],
            next: 0,
            calm: 0,
            mean: 0,
            spread: 0,
            surplus: false,
            waited: 0,
            late: 0,
        }
    }

    /// Reads a little of either end.
    pub(super) fn fetch(&self) -> u64 {
        u64::from(self.reads) + u64::from(self.late) + u64::from(self.surplus)
    }

    /// Takes the margin of a packet, negative when it came too late.
    pub(super) fn note(&mut self, margin: i32) {
        let most = MOST_FRAMES * self.frame_ticks;
        let margin = margin.clamp(-most, most);
        self.lowest = if self.count == 0 { margin } else { self.lowest.min(margin) };
        self.count += 1;
        self.sum += i64::from(margin);
        if margin < self.frame_ticks {
            self.surplus = false;
        }
    }

    /// Takes an overtaken packet that came too late; true when they are more than one in a hundred
    /// and the time line should wait for them.
    pub(super) fn note_late(&mut self, margin: i32) -> bool {
        self.note(margin);
        self.late += 1;
        self.late == 2
    }

    /// A new time line begins: margins of the former one say nothing of it.
    pub(super) fn restart(&mut self) {
        self.count = 0;
        self.sum = 0;
        self.calm = 0;
        self.surplus = false;
    }

    /// Counts a read; a window ends with its last one.
    pub(super) fn tick(&mut self) {
        self.reads += 1;
        if self.reads < WINDOW_READS {
            return;
        }
        self.reads = 0;
        self.late = 0;
        if self.count == 0 {
            return; // the sender pauses: nothing is known
        }
        self.mean = (self.sum / i64::from(self.count)) as i32;
        let spread = self.mean - self.lowest;
        self.spread = spread.max(self.spread - self.spread / SPREAD_DECAY_DIVISOR);
        self.history[self.next] = self.lowest;
        self.next = (self.next + 1) % CALM_WINDOWS;
        self.calm = (self.calm + 1).min(CALM_WINDOWS);
        self.count = 0;
        self.sum = 0;
        let lowest = self.history.iter().min().copied().unwrap_or_default();
        if self.calm == CALM_WINDOWS && lowest > self.enough() && !self.surplus {
            self.surplus = true;
            self.waited = 0;
        }
    }

    /// The margin above which a frame is too much.
    fn enough(&self) -> i32 {
        self.frame_ticks + self.frame_ticks / SAFETY_DIVISOR
    }

    /// Whether the last window says that the delay is enough. That it may be too much is found over
    /// many windows, some of which are exact.
    pub(super) fn are_settled(&self) -> bool {
        let last = self.history[(self.next + CALM_WINDOWS - 1) % CALM_WINDOWS];
        self.calm > 0 && last >= 0
    }

    /// Whether a frame should be left out now: a missing one at once, else any after a second.
    pub(super) fn wants_less(&mut self, is_missing: bool) -> bool {
        if !self.surplus {
            return false;
        }
        self.waited += 1;
        let now = is_missing || self.waited >= WINDOW_READS;
        self.surplus = !now;
        now
    }

    /// The time line was moved, and with it all margins.
    pub(super) fn shift(&mut self, ticks: i32) {
        self.lowest += ticks;
        self.sum += i64::from(ticks) * i64::from(self.count);
        self.mean += ticks;
        for lowest in &mut self.history {
            *lowest += ticks;
        }
    }

    /// Mean margin of the last window.
    pub(super) fn mean_ticks(&self) -> i32 {
        self.mean
    }

    /// How far behind the mean the latest packets come: rises at once, falls slowly.
    pub(super) fn spread_ticks(&self) -> i32 {
        self.spread
    }
}
