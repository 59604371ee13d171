//! DTLS-SRTP, RFC 5763 and 5764: a handshake whose certificate must match the fingerprint of SDP,
//! and the SRTP keys it gives. The protocol itself is `dimpl`, which has no socket and no clock.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};

use super::certificate::{self, Fingerprint};
use super::srtp::{MasterKey, Suite};
use crate::clock::Now;

/// Longest datagram of a handshake; below every path's limit, with room for headers.
const MTU: usize = 1200;

/// First wait for an answer, doubled each time. ICE has shown the path to be quick and alive, so
/// RFC 6347's second would only make a lost datagram heard.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// The whole handshake, from its first message.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);

/// What the engine shows of itself in every handshake.
#[derive(Clone)]
pub struct Identity {
    config: Arc<Config>,
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    /// When the engine's clock said zero.
    epoch: Instant,
}

impl Identity {
    /// A fresh certificate.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> io::Result<Self> {
        let config = Config::builder()
            .mtu(MTU)
            .flight_start_rto(FIRST_RETRY)
            .handshake_timeout(HANDSHAKE_LIMIT)
            // ICE has shown already that the far end is where it says.
            .use_server_cookie(false)
            .build()
            .map_err(io::Error::other)?;
        let certificate = certificate::generate()?;
        let fingerprint = Fingerprint::of(&certificate.certificate);
        Ok(Self { config: Arc::new(config), certificate, fingerprint, epoch: Instant::now() })
    }

    /// For `a=fingerprint:sha-256`.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn instant(&self, now: Now) -> Instant {
        self.epoch + now
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Identity").field(&self.fingerprint).finish()
    }
}

/// Why there will be no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The certificate is not the one whose fingerprint SDP has.
    Fingerprint,
    /// No common profile of SRTP.
    Profile,
    /// The handshake took too long.
    TimedOut,
    /// Any other fault of the handshake.
    Handshake,
    /// The far end closed the association.
    Closed,
}

impl Failure {
    /// Its name for logs and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Profile => "profile",
            Self::TimedOut => "timeout",
            Self::Handshake => "handshake",
            Self::Closed => "closed",
        }
    }
}

/// SRTP keys of both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Of what we send.
    pub local: MasterKey,
    /// Of what we receive.
    pub remote: MasterKey,
}

/// One association with a far end.
pub struct Association {
    dtls: Dtls,
    epoch: Instant,
    expected: Fingerprint,
    active: bool,
    begun: bool,
    verified: bool,
    next_timer: Option<Now>,
    failed: bool,
}

impl fmt::Debug for Association {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Association").field("verified", &self.verified).finish()
    }
}

/// Progress that an association made.
pub type Progress = Result<Option<Keys>, Failure>;

impl Association {
    /// An association with whoever has the certificate expected; `active` begins the handshake.
    #[must_use]
    pub fn new(identity: &Identity, expected: Fingerprint, active: bool, now: Now) -> Self {
        let certificate = identity.certificate.clone();
        let mut dtls =
            Dtls::new_auto(Arc::clone(&identity.config), certificate, identity.instant(now));
        dtls.set_active(active);
        Self {
            dtls,
            epoch: identity.epoch,
            expected,
            active,
            begun: active,
            verified: false,
            // The active side has something to say at once.
            next_timer: active.then_some(now),
            failed: false,
        }
    }

    /// Whether it is with the same far end in the same role, so that it goes on over an
    /// exchange of SDP: RFC 8842 section 5.
    #[must_use]
    pub fn is_with(&self, expected: Fingerprint, active: bool) -> bool {
        self.expected == expected && self.active == active && !self.failed
    }

    /// Takes a datagram; `send` is given what is to be answered.
    ///
    /// # Errors
    /// When the association has failed, which is said once.
    pub fn receive(&mut self, datagram: &[u8], now: Now, send: &mut dyn FnMut(&[u8])) -> Progress {
        // Whoever waits for a ClientHello keeps what comes before it, and stumbles over it later.
        self.begun |= is_client_hello(datagram);
        if self.begun { self.step(now, Some(datagram), send) } else { Ok(None) }
    }

    /// Sends again what was not answered, when it is time.
    ///
    /// # Errors
    /// When the association has failed, which is said once.
    pub fn poll(&mut self, now: Now, send: &mut dyn FnMut(&[u8])) -> Progress {
        match self.next_timer {
            Some(next) if next <= now => self.step(now, None, send),
            _ => Ok(None),
        }
    }

    fn step(&mut self, now: Now, datagram: Option<&[u8]>, send: &mut dyn FnMut(&[u8])) -> Progress {
        if self.failed {
            return Ok(None);
        }
        let handled = self
            .dtls
            .handle_timeout(self.epoch + now)
            .and_then(|()| datagram.map_or(Ok(()), |datagram| self.dtls.handle_packet(datagram)));
        // What was said before the fault is still said, an alert above all.
        let progress = self.drain(send);
        let progress = match handled {
            Ok(()) => progress,
            Err(dimpl::Error::Timeout(_)) => Err(Failure::TimedOut),
            Err(dimpl::Error::ConnectionClosed) => Err(Failure::Closed),
            Err(_) => Err(progress.err().unwrap_or(Failure::Handshake)),
        };
        if progress.is_err() {
            self.failed = true;
            self.next_timer = None;
        }
        progress
    }

    fn drain(&mut self, send: &mut dyn FnMut(&[u8])) -> Progress {
        let mut buffer = [0; MTU];
        let mut keys = None;
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => send(packet),
                Output::PeerCert(certificate) => {
                    if Fingerprint::of(certificate) != self.expected {
                        return Err(Failure::Fingerprint);
                    }
                    self.verified = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    if !self.verified {
                        return Err(Failure::Fingerprint);
                    }
                    keys = Some(split(&material, profile, self.active).ok_or(Failure::Profile)?);
                }
                Output::Timeout(at) => {
                    let next = at.saturating_duration_since(self.epoch);
                    self.next_timer = Some(next);
                    return Ok(keys);
                }
                Output::CloseNotify => return Err(Failure::Closed),
                // More than our own limit is never written, and SRTP has no use for data.
                Output::BufferTooSmall { .. } => return Err(Failure::Handshake),
                Output::Connected | Output::ApplicationData(_) => {}
                _ => {}
            }
        }
    }
}

/// Whether a datagram starts with the first fragment of a ClientHello: RFC 6347 section 4.
fn is_client_hello(datagram: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    matches!(
        datagram,
        [HANDSHAKE, 254, _, 0, 0, _, _, _, _, _, _, _, _, CLIENT_HELLO, _, _, _, _, _, 0, 0, 0, ..]
    )
}

/// The keys of client and server, then their salts: RFC 5764 section 4.2.
fn split(material: &[u8], profile: SrtpProfile, active: bool) -> Option<Keys> {
    let suite = match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Suite::AesCm128HmacSha1Tag80,
        SrtpProfile::AEAD_AES_128_GCM => Suite::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Suite::AeadAes256Gcm,
        _ => return None,
    };
    let (client_key, rest) = material.split_at_checked(suite.key_len())?;
    let (server_key, salts) = rest.split_at_checked(suite.key_len())?;
    let (client_salt, server_salt) = salts.split_at_checked(suite.salt_len())?;
    let client = MasterKey::new(suite, &[client_key, client_salt].concat())?;
    let server = MasterKey::new(suite, &[server_key, server_salt].concat())?;
    Some(if active {
        Keys { local: client, remote: server }
    } else {
        Keys { local: server, remote: client }
    })
}

#[cfg(test)]
mod tests;
