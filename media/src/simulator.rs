//! A network for tests: seeded, on virtual time, with loss in bursts, jitter, reordering,
//! duplicates and senders whose clocks are not ours.

use std::time::Duration;

use crate::clock::Now;

/// A small generator of good quality (splitmix64): the same seed gives the same network.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True with a probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < probability
    }
}

/// What the network does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    pub seed: u64,
    /// Share of packets lost, all in all.
    pub loss: f64,
    /// Mean length of a burst of losses, in packets; Gilbert's model, 1 is random loss.
    pub burst: f64,
    /// Every packet is delayed by up to this much more than the fastest.
    pub jitter: Duration,
    /// Share of packets held back by `hold`, so that later ones overtake them.
    pub held: f64,
    pub hold: Duration,
    pub doubled: f64,
    /// The sender's clock is faster than ours by these parts in a million.
    pub skew_ppm: f64,
    /// Whether jitter may change the order of packets; else each waits for the one before it.
    pub reorders: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            seed: 1,
            loss: 0.0,
            burst: 1.0,
            jitter: Duration::ZERO,
            held: 0.0,
            hold: Duration::ZERO,
            doubled: 0.0,
            skew_ppm: 0.0,
            reorders: false,
        }
    }
}

/// What became of the packets sent.
#[derive(Debug, Default)]
pub struct Delivery {
    /// When each datagram arrives and which one it is, in order of time.
    pub arrivals: Vec<(Now, usize)>,
    pub lost: Vec<usize>,
}

impl Network {
    /// Carries `count` packets sent `period` apart by the sender's clock.
    pub fn carry(&self, count: usize, period: Duration) -> Delivery {
        let mut random = Random::new(self.seed);
        let mut delivery = Delivery::default();
        let period_s = period.as_secs_f64() / (1.0 + self.skew_ppm * 1e-6);
        // The state "losing" is left with 1/burst and entered so that the shares come out right.
        let leave = 1.0 / self.burst;
        let enter = self.loss * leave / (1.0 - self.loss).max(f64::EPSILON);
        let mut losing = false;
        let mut before = Now::ZERO;
        for index in 0..count {
            losing = if losing { !random.chance(leave) } else { random.chance(enter) };
            let sent = Duration::from_secs_f64(period_s * index as f64);
            let jitter_us = self.jitter.as_micros() as u64;
            let mut arrival = sent + Duration::from_micros(random.below(jitter_us + 1));
            if !self.reorders {
                arrival = arrival.max(before);
                before = arrival;
            }
            if random.chance(self.held) {
                arrival += self.hold;
            }
            let doubled = random.chance(self.doubled);
            if losing {
                delivery.lost.push(index);
                continue;
            }
            delivery.arrivals.push((arrival, index));
            if doubled {
                delivery.arrivals.push((arrival + period / 2, index));
            }
        }
        delivery.arrivals.sort();
        delivery
    }
}

#[cfg(test)]
mod tests;
