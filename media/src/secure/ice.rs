//! ICE-lite, RFC 8445: the far end checks, we answer. Only a check that knows our password says
//! where media may go, and only as long as such checks go on coming (RFC 7675).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::stun::{Message, Request, Response};
use crate::clock::Now;

/// Consent of the far end to be sent to, without a further check: RFC 7675 section 5.1.
pub const CONSENT_FOR: Duration = Duration::from_secs(30);

/// Paths of one far end that are remembered; the one checked longest ago gives way.
const MAX_PATHS: usize = 4;

/// What the two sides exchanged in SDP.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `local_ufrag:remote_ufrag`, as the USERNAME of checks.
    username: Box<[u8]>,
    /// Our password, which checks are signed with.
    password: Box<[u8]>,
}

impl Credentials {
    /// From the fragments of both sides and our password.
    #[must_use]
    pub fn new(local_ufrag: &str, local_password: &str, remote_ufrag: &str) -> Self {
        Self {
            username: format!("{local_ufrag}:{remote_ufrag}").into_bytes().into(),
            password: local_password.as_bytes().into(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials")
    }
}

#[derive(Clone, Copy, Debug)]
struct Path {
    remote: SocketAddr,
    last_check: Now,
}

/// An agent with one candidate, the port itself.
#[derive(Debug)]
pub struct Agent {
    credentials: Credentials,
    paths: [Option<Path>; MAX_PATHS],
    selected: Option<SocketAddr>,
}

impl Agent {
    /// An agent that was not checked yet.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, paths: [None; MAX_PATHS], selected: None }
    }

    /// Takes the credentials of a restart, RFC 8445 section 9: media goes on where it goes until
    /// a check with the new ones nominates another path.
    pub fn restart(&mut self, credentials: Credentials) {
        self.credentials = credentials;
    }

    /// Takes a STUN message; the answer is to be sent to where it came from.
    ///
    /// # Errors
    /// When the datagram is to be dropped.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
    ) -> Result<Option<Response>, super::Refusal> {
        match Message::parse(datagram) {
            Ok(Message::Request(request)) => Ok(Some(self.answer(&request, from, now))),
            Ok(Message::Indication) => Ok(None),
            Err(_) => Err(super::Refusal::Malformed),
        }
    }

    fn answer(&mut self, request: &Request<'_>, from: SocketAddr, now: Now) -> Response {
        let transaction = &request.transaction;
        let password = &self.credentials.password;
        // RFC 8489 section 9.1.3: an answer to somebody unknown is not signed.
        let Some(username) = request.username.filter(|_| request.is_signed()) else {
            return Response::error(transaction, 400, "Bad Request").finish();
        };
        if *username != *self.credentials.username || !request.is_authentic(password) {
            return Response::error(transaction, 401, "Unauthenticated").finish();
        }
        if let Some(unknown) = request.unknown {
            let error = Response::error(transaction, 420, "Unknown Attribute");
            return error.with_unknown(unknown).signed(password).finish();
        }
        if request.controlled {
            // One that only answers cannot nominate, so it is never the controlling side.
            return Response::error(transaction, 487, "Role Conflict").signed(password).finish();
        }
        let response = Response::success(transaction, from).signed(password).finish();
        self.checked(from, request.nominates, now);
        response
    }

    fn checked(&mut self, from: SocketAddr, nominates: bool, now: Now) {
        let known = self.paths.iter().position(|path| path.is_some_and(|path| path.remote == from));
        let oldest = || {
            let checks = self.paths.iter().map(|path| path.map(|path| path.last_check));
            checks.enumerate().min_by_key(|(_, check)| *check).map_or(0, |(slot, _)| slot)
        };
        let slot = known.unwrap_or_else(oldest);
        self.paths[slot] = Some(Path { remote: from, last_check: now });
        // Before anything is nominated, answers of DTLS go where the first check came from.
        if nominates || self.selected.is_none() {
            self.selected = Some(from);
        }
    }

    /// Whether a check came from there with our password, not too long ago.
    #[must_use]
    pub fn knows(&self, remote: SocketAddr, now: Now) -> bool {
        self.paths.iter().flatten().any(|path| path.remote == remote && path.consents(now))
    }

    /// Where to send: the path nominated last, as long as the far end consents.
    #[must_use]
    pub fn destination(&self, now: Now) -> Option<SocketAddr> {
        self.selected.filter(|selected| self.knows(*selected, now))
    }
}

impl Path {
    fn consents(&self, now: Now) -> bool {
        now.saturating_sub(self.last_check) < CONSENT_FOR
    }
}

#[cfg(test)]
mod tests;
