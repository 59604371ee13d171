//! When reports are sent and what they tell: RFC 3550 section 6.2 to 6.4 for a session of two.

use std::time::Duration;

use super::{Compound, MAX_LEN, Malformed, NtpTime, Packet, ReportBlock, SenderInfo, parse};
use crate::clock::Now;
use crate::reception::{Counts, Reception};
use crate::rtp::{RtpTimestamp, Ssrc};

/// Two members whose reports have about 100 octets would need 0.5 s at 5 % of 64 kbit/s: the
/// minimum of section 6.2 always holds.
const INTERVAL: Duration = Duration::from_secs(5);

/// The mean of the interval is lowered by this, section 6.3.1: e - 3/2.
const COMPENSATION: f64 = std::f64::consts::E - 1.5;

/// Length of the name: 96 random bits in base 64, RFC 7022 section 4.2.
const CNAME_LEN: usize = 16;

/// Round trips longer than this are a far end's mistake.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(10);

/// What we have sent, for a sender's report.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The stream's time now.
    pub timestamp: RtpTimestamp,
    /// Packets.
    pub packets: u64,
    /// Octets of payload.
    pub octets: u64,
}

/// What the far end last said of the stream we send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FarReport {
    /// Packets lost from the beginning.
    pub lost: u32,
    /// Packets lost since its report before, in 256ths.
    pub fraction_lost: u8,
    /// Interarrival jitter in our RTP ticks.
    pub jitter: u32,
}

/// What a datagram from the far end meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The far end is there.
    Alive,
    /// It said goodbye.
    Goodbye,
}

/// One side of a session.
#[derive(Debug)]
pub struct Session {
    ssrc: Ssrc,
    cname: [u8; CNAME_LEN],
    /// What is added to the monotonic clock: one correction for the whole call, so that a step
    /// of the wall clock is no round trip.
    behind_1900: Duration,
    random: u64,
    next: Option<Now>,
    /// Packets sent up to the last report and the one before it.
    sent_before: [u64; 2],
    reported: Counts,
    last_sr: Option<(NtpTime, Now)>,
    round_trip: Option<Duration>,
    far: Option<FarReport>,
}

impl Session {
    /// A session that begins with `start`. `random` must be unpredictable; `behind_1900` is what
    /// the monotonic clock lacks to wall-clock time counted from 1900.
    #[must_use]
    pub fn new(ssrc: Ssrc, random: [u8; 12], behind_1900: Duration) -> Self {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut cname = [0; CNAME_LEN];
        for (name, octets) in cname.chunks_exact_mut(4).zip(random.chunks_exact(3)) {
            let bits = u32::from_be_bytes([0, octets[0], octets[1], octets[2]]);
            for (digit, shift) in name.iter_mut().zip([18, 12, 6, 0]) {
                *digit = DIGITS[(bits >> shift & 0x3f) as usize];
            }
        }
        let [a, b, c, d, e, f, g, h, ..] = random;
        Self {
            ssrc,
            cname,
            behind_1900,
            random: u64::from_ne_bytes([a, b, c, d, e, f, g, h]) | 1,
            next: None,
            sent_before: [0; 2],
            reported: Counts::default(),
            last_sr: None,
            round_trip: None,
            far: None,
        }
    }

    /// Begins to report, unless it does already; the first report comes in half the time.
    pub fn start(&mut self, now: Now) {
        if self.next.is_none() {
            let interval = self.interval() / 2;
            self.next = Some(now + interval);
        }
    }

    /// Stops reporting.
    pub fn stop(&mut self) {
        self.next = None;
    }

    /// Whether a report should go out.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// The far end's stream was replaced: its reports concern another one.
    pub fn forget_source(&mut self) {
        self.last_sr = None;
    }

    /// How long a packet takes to the far end and back, as last measured.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What the far end says of our stream.
    #[must_use]
    pub fn far(&self) -> Option<FarReport> {
        self.far
    }

    /// Takes in a datagram.
    ///
    /// # Errors
    /// When it is no RTCP; then nothing of it was believed.
    pub fn receive(&mut self, datagram: &[u8], now: Now) -> Result<Received, Malformed> {
        let mut received = Received::Alive;
        for packet in parse(datagram)? {
            match packet {
                Packet::Report { sender, .. } => {
                    if let Some(sender) = sender {
                        self.last_sr = Some((sender.ntp, now));
                    }
                    let ours = packet.blocks().filter(|block| block.ssrc == self.ssrc);
                    if let Some(block) = ours.last() {
                        self.take_block(&block, now);
                    }
                }
                Packet::Goodbye { .. } => received = Received::Goodbye,
                Packet::SourceDescription | Packet::Other(_) => {}
            }
        }
        Ok(received)
    }

    fn take_block(&mut self, block: &ReportBlock, now: Now) {
        self.far = Some(FarReport {
            lost: block.lost.max(0).unsigned_abs(),
            fraction_lost: block.fraction_lost,
            jitter: block.jitter,
        });
        if block.last_sr == 0 {
            return;
        }
        // Section 6.4.1: A - LSR - DLSR, in 65536ths of a second.
        let elapsed = self.ntp(now).middle().wrapping_sub(block.last_sr);
        let round_trip = elapsed.wrapping_sub(block.delay_since_last_sr);
        // A far end that counts its delay a little too long would give a negative one.
        let round_trip = round_trip.cast_signed().max(0).unsigned_abs();
        let round_trip = Duration::from_secs_f64(f64::from(round_trip) / 65536.0);
        if round_trip < MAX_ROUND_TRIP {
            self.round_trip = Some(round_trip);
        }
    }

    /// Writes the report that is due and sets the time of the next one.
    pub fn report(
        &mut self,
        sent: Sent,
        reception: &Reception,
        now: Now,
        out: &mut [u8; MAX_LEN],
    ) -> usize {
        let interval = self.interval();
        self.next = self.next.map(|_| now + interval);
        self.compound(sent, reception, now, false, out)
    }

    /// Writes the last report, which says goodbye.
    pub fn goodbye(
        &mut self,
        sent: Sent,
        reception: &Reception,
        now: Now,
        out: &mut [u8; MAX_LEN],
    ) -> usize {
        self.next = None;
        self.compound(sent, reception, now, true, out)
    }

    fn ntp(&self, now: Now) -> NtpTime {
        NtpTime::since_1900(now + self.behind_1900)
    }

    fn compound(
        &mut self,
        sent: Sent,
        reception: &Reception,
        now: Now,
        goodbye: bool,
        out: &mut [u8; MAX_LEN],
    ) -> usize {
        let [before_last, last] = self.sent_before;
        let sends = sent.packets != before_last;
        self.sent_before = [last, sent.packets];
        let sender = sends.then_some(SenderInfo {
            ntp: self.ntp(now),
            timestamp: sent.timestamp,
            packets: sent.packets as u32,
            octets: sent.octets as u32,
        });
        let block = reception.ssrc().map(|ssrc| self.block(ssrc, reception, now));
        let cname = str::from_utf8(&self.cname).unwrap_or_default();
        Compound { ssrc: self.ssrc, sender, block, cname, goodbye }.write(out)
    }

    fn block(&mut self, ssrc: Ssrc, reception: &Reception, now: Now) -> ReportBlock {
        let counts = reception.counts();
        let interval = counts.since(self.reported);
        self.reported = counts;
        let fraction_lost = match (interval.lost(), interval.expected) {
            (_, ..=0) => 0,
            (lost, expected) => (lost * 256 / expected).clamp(0, 255) as u8,
        };
        let (last_sr, delay_since_last_sr) = self.last_sr.map_or((0, 0), |(ntp, came)| {
            let delay = now.saturating_sub(came);
            (ntp.middle(), (delay.as_secs_f64() * 65536.0) as u32)
        });
        ReportBlock {
            ssrc,
            fraction_lost,
            lost: (counts.expected - counts.received).clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest: reception.extended_highest(),
            jitter: reception.jitter_ticks(),
            last_sr,
            delay_since_last_sr,
        }
    }

    /// Half to one and a half times the interval, so that sessions begun together part.
    fn interval(&mut self) -> Duration {
        // xorshift64: spread is asked for here, not secrecy.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        INTERVAL.mul_f64((0.5 + share) / COMPENSATION)
    }
}

#[cfg(test)]
mod tests;
