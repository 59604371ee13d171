//! A port whose datagrams are handed on as they are: video and fax between two far ends.
//!
//! What is inside is not looked at, so it may be RTP of any codec, RTCP, or UDPTL (T.38). Where a
//! datagram came from is judged as that of audio is.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Now;
use crate::event::PortFigures;

/// How long a source must be quiet before another one of the same address may take its place.
const LATCH_HOLD: Duration = Duration::from_millis(200);

/// One side of a relay.
#[derive(Debug)]
pub struct Relay {
    /// Key, in the reactor, of the port on the other side.
    pub peer: usize,
    remote: SocketAddr,
    latched: Option<SocketAddr>,
    last_datagram: Now,
    timeout: Duration,
    timed_out: bool,
    figures: PortFigures,
}

impl Relay {
    /// The side of a far end at `remote`; a silence of `timeout` is told, unless that is zero.
    #[must_use]
    pub fn new(peer: usize, remote: SocketAddr, timeout: Duration, now: Now) -> Self {
        Self {
            peer,
            remote,
            latched: None,
            last_datagram: now,
            timeout,
            timed_out: false,
            figures: PortFigures::default(),
        }
    }

    /// Whether a datagram is the far end's. Symmetric as RTP is (RFC 4961): a far end behind NAT
    /// is reached where it sends from, which it changes only after a pause.
    pub fn accept(&mut self, from: SocketAddr, now: Now) -> bool {
        let is_close = from.ip().to_canonical() == self.remote.ip().to_canonical();
        let is_next = self.latched.is_none_or(|latched| {
            latched == from || now.saturating_sub(self.last_datagram) >= LATCH_HOLD
        });
        if !(is_close && is_next) {
            self.figures.packets_invalid += 1;
            return false;
        }
        self.latched = Some(from);
        self.last_datagram = now;
        self.timed_out = false;
        self.figures.packets_received += 1;
        true
    }

    /// Where the far end is reached; None while it wants nothing, which port 0 says.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.latched.or((self.remote.port() != 0).then_some(self.remote))
    }

    /// Counts a datagram sent to the far end.
    pub fn count_sent(&mut self) {
        self.figures.packets_sent += 1;
    }

    /// Whether the far end has just been silent for too long; told once.
    pub fn times_out(&mut self, now: Now) -> bool {
        let is_silent = !self.timeout.is_zero()
            && !self.timed_out
            && now.saturating_sub(self.last_datagram) >= self.timeout;
        self.timed_out |= is_silent;
        is_silent
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> PortFigures {
        self.figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Duration::from_secs(10);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn relay() -> Relay {
        Relay::new(7, address(4000), Duration::from_secs(5), START)
    }

    #[test]
    fn only_the_far_ends_address_is_heard() {
        let mut relay = relay();
        assert!(!relay.accept(SocketAddr::from(([192, 0, 2, 9], 4000)), START));
        assert_eq!(relay.destination(), Some(address(4000)));
        assert_eq!(relay.figures().packets_invalid, 1);
    }

    #[test]
    fn the_far_end_is_reached_where_it_sends_from() {
        let mut relay = relay();
        assert!(relay.accept(address(5000), START));
        assert_eq!(relay.destination(), Some(address(5000)));
        assert!(!relay.accept(address(5002), START + Duration::from_millis(100)));
        assert!(relay.accept(address(5002), START + Duration::from_millis(300)));
        assert_eq!(relay.destination(), Some(address(5002)));
        assert_eq!((relay.figures().packets_received, relay.figures().packets_invalid), (2, 1));
    }

    #[test]
    fn silence_is_told_once() {
        let mut relay = relay();
        assert!(!relay.times_out(START + Duration::from_secs(4)));
        assert!(relay.times_out(START + Duration::from_secs(5)));
        assert!(!relay.times_out(START + Duration::from_secs(6)));
        assert!(relay.accept(address(4000), START + Duration::from_secs(7)));
        assert!(!relay.times_out(START + Duration::from_secs(8)));
        assert!(relay.times_out(START + Duration::from_secs(12)));
    }

    #[test]
    fn who_wants_nothing_is_sent_nothing() {
        let relay = Relay::new(7, address(0), Duration::ZERO, START);
        assert_eq!(relay.destination(), None);
    }
}
