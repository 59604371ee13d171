//! RTCP of a port and what it makes of the call: round trips, what the far end hears, scores.

use std::net::SocketAddr;
use std::time::Duration;

use super::receiving::Receiving;
use super::sending::Sending;
use crate::clock::Now;
use crate::event::{Connection, Rtcp};
use crate::outbox::{Channel, Outbox};
use crate::quality::Quality;
use crate::rtcp::session::{Received, Session};
use crate::rtcp::{self, session};
use crate::rtp::Ssrc;

/// A stream is judged this often, so that a bad moment shows.
const JUDGE_EVERY: Duration = Duration::from_secs(5);

/// Of the way from mouth to ear: a packet's length on either side and what devices add.
const FIXED_DELAY: Duration = Duration::from_millis(50);

/// What is unpredictable about the reports of a port.
#[derive(Clone, Copy, Debug)]
pub struct ReportStart {
    /// For the name and the times of reports.
    pub random: [u8; 12],
    /// What the monotonic clock lacks to wall-clock time counted from 1900.
    pub behind_1900: Duration,
}

/// Reports and scores of one port.
#[derive(Debug)]
pub struct Reporting {
    session: Session,
    quality: Quality,
    /// Where reports come from.
    latched: Option<SocketAddr>,
    /// The source reports are about.
    source: Option<Ssrc>,
    next_judged: Option<Now>,
}

impl Reporting {
    /// Reports of nothing yet.
    #[must_use]
    pub fn new(ssrc: Ssrc, start: ReportStart) -> Self {
        Self {
            session: Session::new(ssrc, start.random, start.behind_1900),
            quality: Quality::default(),
            latched: None,
            source: None,
            next_judged: None,
        }
    }

    /// Reads a little of all that a tick needs.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        u64::from(self.session.is_due(Now::ZERO)) + u64::from(self.next_judged.is_some())
    }

    /// Takes over what was negotiated.
    pub fn connect(&mut self, former: Option<&Connection>, connection: &Connection, now: Now) {
        if former.is_none_or(|former| {
            former.remote != connection.remote || former.rtcp != connection.rtcp
        }) {
            self.latched = None;
        }
        match connection.rtcp {
            Rtcp::None => self.session.stop(),
            Rtcp::Port(_) | Rtcp::Shared => self.session.start(now),
        }
        self.next_judged.get_or_insert(now + JUDGE_EVERY);
    }

    /// Takes in a datagram of RTCP's port, or of the shared one; what it says of the far end, or
    /// None when it is not believed.
    pub fn receive(
        &mut self,
        connection: &Connection,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
    ) -> Option<Received> {
        let is_negotiated = from.ip().to_canonical() == connection.remote_ip();
        // Reports follow no one who moves: where they first came from they must go on to come.
        if !is_negotiated || self.latched.is_some_and(|latched| latched != from) {
            return None;
        }
        let received = self.session.receive(datagram, now).ok()?;
        if matches!(connection.rtcp, Rtcp::Port(_)) {
            self.latched = Some(from);
        }
        Some(received)
    }

    /// Sends the report that is due and judges the stream, each every few seconds.
    pub fn tick(
        &mut self,
        connection: &Connection,
        receiving: &Receiving,
        sending: &Sending,
        media: SocketAddr,
        now: Now,
        out: &mut Outbox,
    ) {
        if self.next_judged.is_some_and(|next| next <= now) {
            self.judge(connection, receiving);
            self.next_judged = Some(now + JUDGE_EVERY);
        }
        if self.session.is_due(now) {
            self.send(connection, receiving, sending, media, now, false, out);
        }
    }

    /// Sends a report, or the last one.
    #[expect(clippy::too_many_arguments, reason = "the parts of a port")]
    pub fn send(
        &mut self,
        connection: &Connection,
        receiving: &Receiving,
        sending: &Sending,
        media: SocketAddr,
        now: Now,
        goodbye: bool,
        out: &mut Outbox,
    ) {
        let (channel, to) = match connection.rtcp {
            Rtcp::None => return,
            Rtcp::Shared => (Channel::Media, media),
            Rtcp::Port(port) => {
                let negotiated = SocketAddr::new(connection.remote.ip(), port);
                (Channel::Reports, self.latched.unwrap_or(negotiated))
            }
        };
        let reception = receiving.reception();
        if self.source != reception.ssrc() {
            self.source = reception.ssrc();
            self.session.forget_source();
        }
        let sent = sending.sent();
        let mut compound = [0; rtcp::MAX_LEN];
        let len = if goodbye {
            self.session.goodbye(sent, reception, now, &mut compound)
        } else {
            self.session.report(sent, reception, now, &mut compound)
        };
        out.push(channel, to, |room| {
            room[..len].copy_from_slice(&compound[..len]);
            len
        });
    }

    /// Scores the time since the last judgement.
    pub fn judge(&mut self, connection: &Connection, receiving: &Receiving) {
        let network = self.session.round_trip().unwrap_or_default() / 2;
        let delay = network + receiving.buffer_delay() + FIXED_DELAY;
        let counts = receiving.reception().counts();
        self.quality.judge(connection.codec, counts, receiving.discarded(), delay);
    }

    /// The scores.
    #[must_use]
    pub fn quality(&self) -> &Quality {
        &self.quality
    }

    /// How long a packet takes to the far end and back.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.session.round_trip()
    }

    /// What the far end says of our stream.
    #[must_use]
    pub fn far(&self) -> Option<session::FarReport> {
        self.session.far()
    }
}

#[cfg(test)]
mod tests;
