//! STUN, RFC 8489, as far as ICE asks it of an agent that only answers: binding requests are read
//! and verified, responses are written.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Longest response written: an address of IPv6, MESSAGE-INTEGRITY and FINGERPRINT.
pub const MAX_RESPONSE_LEN: usize = 128;

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 4;
/// What the checksum of FINGERPRINT is mixed with, section 14.7: "STUN".
const FINGERPRINT_MIX: u32 = 0x5354_554e;

/// Attributes that are known, section 18.3 and RFC 8445 section 16.1.
mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
}

/// Message types, section 5.
mod message_type {
    pub(super) const REQUEST: u16 = 0x0001;
    pub(super) const INDICATION: u16 = 0x0011;
    pub(super) const SUCCESS: u16 = 0x0101;
    pub(super) const ERROR: u16 = 0x0111;
}

/// Names a request and its response.
pub type TransactionId = [u8; 12];

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A binding request.
    Request(Request<'a>),
    /// A binding indication, which keeps a NAT's binding open and wants no answer.
    Indication,
}

/// A binding request, not yet verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Of the answer, too.
    pub transaction: TransactionId,
    /// USERNAME: the fragment of the receiver, a colon, that of the sender.
    pub username: Option<&'a [u8]>,
    /// USE-CANDIDATE: the sender nominates this path.
    pub nominates: bool,
    /// ICE-CONTROLLED: the sender leaves it to us to nominate.
    pub controlled: bool,
    /// An attribute that must be understood and is not.
    pub unknown: Option<u16>,
    /// All up to MESSAGE-INTEGRITY, and what it says.
    integrity: Option<(&'a [u8], &'a [u8])>,
}

/// Why a datagram is no STUN message that ICE knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Header or attributes do not fit the length.
    Truncated,
    /// Neither a binding request nor an indication.
    Type,
    /// The magic cookie is missing.
    Cookie,
    /// FINGERPRINT, which ICE demands (RFC 8445 section 7.1.2), is missing, wrong or not last.
    Fingerprint,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is nothing that an answering ICE agent knows.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (header, attributes) =
            datagram.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Truncated)?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if len != attributes.len() || !len.is_multiple_of(4) {
            return Err(Malformed::Truncated);
        }
        if header[4..8] != MAGIC_COOKIE {
            return Err(Malformed::Cookie);
        }
        check_fingerprint(datagram)?;
        match u16::from_be_bytes([header[0], header[1]]) {
            message_type::REQUEST => Request::parse(datagram, header).map(Self::Request),
            message_type::INDICATION => Ok(Self::Indication),
            _ => Err(Malformed::Type),
        }
    }
}

impl<'a> Request<'a> {
    fn parse(datagram: &'a [u8], header: &[u8; HEADER_LEN]) -> Result<Self, Malformed> {
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        let mut request = Self {
            transaction,
            username: None,
            nominates: false,
            controlled: false,
            unknown: None,
            integrity: None,
        };
        let mut start = HEADER_LEN;
        while start < datagram.len() {
            let (kind, value, next) = attribute_at(datagram, start).ok_or(Malformed::Truncated)?;
            request.take(kind, value, &datagram[..start]);
            start = next;
        }
        Ok(request)
    }

    fn take(&mut self, kind: u16, value: &'a [u8], before: &'a [u8]) {
        // Behind MESSAGE-INTEGRITY nothing is protected, so nothing is believed, section 14.5.
        if self.integrity.is_some() {
            return;
        }
        match kind {
            attribute::USERNAME => self.username = Some(value),
            attribute::USE_CANDIDATE => self.nominates = true,
            attribute::ICE_CONTROLLED => self.controlled = true,
            attribute::MESSAGE_INTEGRITY => self.integrity = Some((before, value)),
            attribute::PRIORITY => {}
            optional if optional >= 0x8000 => {}
            unknown => self.unknown = Some(unknown),
        }
    }

    /// Whether the request carries a MESSAGE-INTEGRITY at all.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether it was made by somebody who knows the password.
    #[must_use]
    pub fn is_authentic(&self, password: &[u8]) -> bool {
        self.integrity.is_some_and(|(before, given)| {
            let attributes_len = before.len() - HEADER_LEN + 4 + INTEGRITY_LEN;
            given.len() == INTEGRITY_LEN
                && keyed(password, before, attributes_len).verify_slice(given).is_ok()
        })
    }
}

/// Kind and value of the attribute at an offset, and where the next one starts.
fn attribute_at(datagram: &[u8], start: usize) -> Option<(u16, &[u8], usize)> {
    let head = datagram.get(start..start + 4)?;
    let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let value = datagram.get(start + 4..start + 4 + len)?;
    let next = start + 4 + len.next_multiple_of(4);
    (next <= datagram.len()).then_some((u16::from_be_bytes([head[0], head[1]]), value, next))
}

fn check_fingerprint(datagram: &[u8]) -> Result<(), Malformed> {
    let (before, last) =
        datagram.split_last_chunk::<{ 4 + FINGERPRINT_LEN }>().ok_or(Malformed::Fingerprint)?;
    let [kind_high, kind_low, 0, 4, given @ ..] = *last else {
        return Err(Malformed::Fingerprint);
    };
    let is_fingerprint = u16::from_be_bytes([kind_high, kind_low]) == attribute::FINGERPRINT;
    if is_fingerprint && u32::from_be_bytes(given) == crc32(before) ^ FINGERPRINT_MIX {
        Ok(())
    } else {
        Err(Malformed::Fingerprint)
    }
}

/// HMAC over what precedes MESSAGE-INTEGRITY, with the length that the message had at that point.
fn keyed(password: &[u8], before: &[u8], attributes_len: usize) -> Hmac<Sha1> {
    let mut mac = match Hmac::<Sha1>::new_from_slice(password) {
        Ok(mac) => mac,
        // HMAC takes keys of every length.
        Err(_) => unreachable!("a key of {} octets", password.len()),
    };
    mac.update(&before[..2]);
    mac.update(&(attributes_len as u16).to_be_bytes());
    mac.update(&before[4..]);
    mac
}

/// A response being written.
#[derive(Debug)]
pub struct Response {
    octets: [u8; MAX_RESPONSE_LEN],
    len: usize,
}

impl Response {
    /// The success response: where the request came from.
    #[must_use]
    pub fn success(transaction: &TransactionId, from: SocketAddr) -> Self {
        let mut response = Self::new(message_type::SUCCESS, transaction);
        let mut value = [0; 20];
        let port = from.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
        value[2..4].copy_from_slice(&port.to_be_bytes());
        let len = match from.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        let mask = MAGIC_COOKIE.iter().chain(transaction);
        value[4..len].iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        response.attribute(attribute::XOR_MAPPED_ADDRESS, &value[..len]);
        response
    }

    /// An error response, section 14.8.
    #[must_use]
    pub fn error(transaction: &TransactionId, code: u16, reason: &str) -> Self {
        let mut response = Self::new(message_type::ERROR, transaction);
        let mut value = [0; 32];
        value[2] = (code / 100) as u8;
        value[3] = (code % 100) as u8;
        let reason_len = reason.len().min(value.len() - 4);
        value[4..4 + reason_len].copy_from_slice(&reason.as_bytes()[..reason_len]);
        response.attribute(attribute::ERROR_CODE, &value[..4 + reason_len]);
        response
    }

    /// Names the attribute that was not understood.
    #[must_use]
    pub fn with_unknown(mut self, kind: u16) -> Self {
        self.attribute(attribute::UNKNOWN_ATTRIBUTES, &kind.to_be_bytes());
        self
    }

    /// Adds MESSAGE-INTEGRITY.
    #[must_use]
    pub fn signed(mut self, password: &[u8]) -> Self {
        let attributes_len = self.len - HEADER_LEN + 4 + INTEGRITY_LEN;
        let mac = keyed(password, &self.octets[..self.len], attributes_len);
        self.attribute(attribute::MESSAGE_INTEGRITY, &mac.finalize().into_bytes());
        self
    }

    /// Adds FINGERPRINT and hands over the octets.
    #[must_use]
    pub fn finish(mut self) -> Self {
        let attributes_len = self.len - HEADER_LEN + 4 + FINGERPRINT_LEN;
        self.octets[2..4].copy_from_slice(&(attributes_len as u16).to_be_bytes());
        let checksum = crc32(&self.octets[..self.len]) ^ FINGERPRINT_MIX;
        self.attribute(attribute::FINGERPRINT, &checksum.to_be_bytes());
        self
    }

    /// What is to be sent.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    fn new(kind: u16, transaction: &TransactionId) -> Self {
        let mut octets = [0; MAX_RESPONSE_LEN];
        octets[..2].copy_from_slice(&kind.to_be_bytes());
        octets[4..8].copy_from_slice(&MAGIC_COOKIE);
        octets[8..HEADER_LEN].copy_from_slice(transaction);
        Self { octets, len: HEADER_LEN }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let place = &mut self.octets[self.len..];
        place[..2].copy_from_slice(&kind.to_be_bytes());
        place[2..4].copy_from_slice(&(value.len() as u16).to_be_bytes());
        place[4..4 + value.len()].copy_from_slice(value);
        self.len += 4 + value.len().next_multiple_of(4);
        let attributes_len = (self.len - HEADER_LEN) as u16;
        self.octets[2..4].copy_from_slice(&attributes_len.to_be_bytes());
    }
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let mut rest = octet as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ 0xedb8_8320 } else { rest >> 1 };
            bit += 1;
        }
        table[octet] = rest;
        octet += 1;
    }
    table
};

/// CRC-32 of ISO 3309, which FINGERPRINT uses.
fn crc32(octets: &[u8]) -> u32 {
    let step =
        |crc: u32, octet: &u8| crc >> 8 ^ CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ octet)];
    !octets.iter().fold(!0, step)
}

#[cfg(test)]
pub(super) mod tests;
