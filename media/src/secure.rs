//! Secure media of one port: SRTP with keys from SDES, or ICE-lite and DTLS-SRTP for browsers, all
//! on the port's one socket. It takes datagrams and the time, and gives plain RTP and RTCP.

pub mod certificate;
pub mod dtls;
pub mod ice;
pub mod srtp;
pub mod stun;

use std::net::SocketAddr;
use std::time::Duration;

use self::certificate::Fingerprint;
use self::dtls::{Association, Failure, Identity, Keys};
use self::ice::{Agent, Credentials};
use self::srtp::{Protector, Suite, Unprotector};
use crate::clock::Now;

/// How long a browser may take to be reached and to shake hands.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(20);

/// What was negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// SRTP with keys that SDP carried, RFC 4568.
    Sdes(Keys),
    /// A browser: ICE-lite, and SRTP with keys from DTLS.
    Dtls(DtlsPeer),
}

/// A far end behind ICE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtlsPeer {
    /// Of its certificate.
    pub fingerprint: Fingerprint,
    /// Whether we begin the handshake.
    pub active: bool,
    /// What its checks are signed with.
    pub credentials: Credentials,
}

/// Why a datagram was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what it should be.
    Malformed,
    /// It came before, or is too old to be told.
    Replayed,
    /// Its authentication fails.
    Forged,
    /// It comes from where no check came from.
    Stranger,
    /// It is media, and the keys are not there yet.
    Early,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// RTP or RTCP in plain.
    Media(&'a [u8]),
    /// It was for ICE.
    Handled,
    /// It was dropped.
    Refused(Refusal),
}

/// What is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Keys are there, media flows.
    Ready(Suite),
    /// There will be none.
    Failed(Failure),
}

/// Sends a datagram at once.
pub type Send<'a> = &'a mut dyn FnMut(&[u8], SocketAddr);

/// Secure media of a port.
#[derive(Debug)]
pub struct SecureMedia {
    session: Option<Session>,
    browser: Option<Browser>,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
struct Session {
    keys: Keys,
    protector: Protector,
    unprotector: Unprotector,
}

#[derive(Debug)]
struct Browser {
    agent: Agent,
    association: Association,
    /// Until when there must be keys.
    give_up: Option<Now>,
}

impl SecureMedia {
    /// For what was negotiated first.
    #[must_use]
    pub fn new(security: &Security, identity: &Identity, now: Now) -> Self {
        let mut media = Self { session: None, browser: None, outcome: None };
        media.connect(security, identity, now);
        media
    }

    /// For what was negotiated anew: keys and associations that stay are not begun again, since
    /// their packets are counted.
    pub fn connect(&mut self, security: &Security, identity: &Identity, now: Now) {
        match security {
            Security::Sdes(keys) => {
                self.browser = None;
                self.rekey(*keys);
            }
            Security::Dtls(peer) => {
                match &mut self.browser {
                    Some(browser) => browser.agent.restart(peer.credentials.clone()),
                    none => {
                        // Keys of SDP, if there were any, do not serve here.
                        self.session = None;
                        *none = Some(Browser::new(peer, identity, now));
                    }
                }
                if let Some(browser) = &mut self.browser
                    && !browser.association.is_with(peer.fingerprint, peer.active)
                {
                    browser.associate(peer, identity, now);
                    self.session = None;
                }
            }
        }
    }

    fn rekey(&mut self, keys: Keys) {
        if self.session.as_ref().is_some_and(|session| session.keys == keys) {
            return;
        }
        self.outcome = Some(Outcome::Ready(keys.local.suite()));
        self.session = Some(Session {
            keys,
            protector: Protector::new(&keys.local),
            unprotector: Unprotector::new(&keys.remote),
        });
    }

    /// Whether there are keys.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.session.is_some()
    }

    /// What is to be told since the last time.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Whether a datagram belongs to DTLS and came by a path that was checked. Such a one costs
    /// much and may wait for `shake_hands`.
    #[must_use]
    pub fn is_handshake(&self, datagram: &[u8], from: SocketAddr, now: Now) -> bool {
        matches!(datagram.first(), Some(20..=63))
            && self.browser.as_ref().is_some_and(|browser| browser.agent.knows(from, now))
    }

    /// Takes a datagram of DTLS; the answer goes to where it came from.
    pub fn shake_hands(&mut self, datagram: &[u8], from: SocketAddr, now: Now, send: Send<'_>) {
        if let Some(browser) = &mut self.browser {
            let mut send = |octets: &[u8]| send(octets, from);
            let progress = browser.association.receive(datagram, now, &mut send);
            self.advance(progress);
        }
    }

    /// Takes any other datagram, told apart by its first octet (RFC 7983), decrypting it in place.
    pub fn receive<'a>(
        &mut self,
        datagram: &'a mut [u8],
        from: SocketAddr,
        now: Now,
        send: Send<'_>,
    ) -> Received<'a> {
        let handled = match (datagram.first(), &mut self.browser) {
            (Some(0..=3), Some(browser)) => browser.check(datagram, from, now, send),
            (Some(20..=63), Some(_)) => Err(Refusal::Stranger),
            (Some(128..=191), _) => return self.unprotect(datagram, from, now),
            _ => Err(Refusal::Malformed),
        };
        handled.map_or_else(Received::Refused, |()| Received::Handled)
    }

    /// What is due by the time: messages of DTLS that were not answered, and giving up.
    pub fn poll(&mut self, now: Now, send: Send<'_>) {
        let Some(browser) = &mut self.browser else { return };
        if self.session.is_none() && browser.give_up.take_if(|limit| *limit <= now).is_some() {
            self.outcome = Some(Outcome::Failed(Failure::TimedOut));
        } else if let Some(to) = browser.agent.destination(now) {
            let progress = browser.association.poll(now, &mut |octets| send(octets, to));
            self.advance(progress);
        }
    }

    fn advance(&mut self, progress: dtls::Progress) {
        match progress {
            Ok(None) => {}
            Ok(Some(keys)) => self.rekey(keys),
            Err(failure) => {
                self.session = None;
                if let Some(browser) = &mut self.browser {
                    browser.give_up = None;
                }
                self.outcome = Some(Outcome::Failed(failure));
            }
        }
    }

    fn unprotect<'a>(
        &mut self,
        datagram: &'a mut [u8],
        from: SocketAddr,
        now: Now,
    ) -> Received<'a> {
        if self.browser.as_ref().is_some_and(|browser| !browser.agent.knows(from, now)) {
            return Received::Refused(Refusal::Stranger);
        }
        let Some(session) = &mut self.session else { return Received::Refused(Refusal::Early) };
        let opened = if is_rtcp(datagram) {
            session.unprotector.unprotect_rtcp(datagram)
        } else {
            session.unprotector.unprotect_rtp(datagram)
        };
        match opened {
            Ok(len) => Received::Media(&datagram[..len]),
            Err(refusal) => Received::Refused(refusal),
        }
    }

    /// Protects the RTP or RTCP packet in `buffer[..len]` and returns its length; `None` when it
    /// must not leave, because there are no keys yet.
    pub fn protect(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let protector = &mut self.session.as_mut()?.protector;
        if is_rtcp(&buffer[..len]) {
            protector.protect_rtcp(buffer, len)
        } else {
            protector.protect_rtp(buffer, len)
        }
    }

    /// Whether ICE alone says where media goes and comes from.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.browser.is_some()
    }

    /// Where media goes by ICE; nowhere without the far end's consent.
    #[must_use]
    pub fn destination(&self, now: Now) -> Option<SocketAddr> {
        self.browser.as_ref()?.agent.destination(now)
    }
}

impl Browser {
    fn new(peer: &DtlsPeer, identity: &Identity, now: Now) -> Self {
        Self {
            agent: Agent::new(peer.credentials.clone()),
            association: Association::new(identity, peer.fingerprint, peer.active, now),
            give_up: Some(now + ESTABLISHED_WITHIN),
        }
    }

    fn associate(&mut self, peer: &DtlsPeer, identity: &Identity, now: Now) {
        self.association = Association::new(identity, peer.fingerprint, peer.active, now);
        self.give_up = Some(now + ESTABLISHED_WITHIN);
    }

    fn check(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
        send: Send<'_>,
    ) -> Result<(), Refusal> {
        if let Some(response) = self.agent.receive(datagram, from, now)? {
            send(response.octets(), from);
        }
        Ok(())
    }
}

/// Tells RTCP from RTP on one port, RFC 5761 section 4.
fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|octet| (192..=223).contains(octet))
}

#[cfg(test)]
mod tests;
