//! SRTP and SRTCP, RFC 3711, with the AEAD transforms of RFC 7714: packets are protected and
//! unprotected in place, without allocation. Keys come by SDES or from DTLS; it is the same here.

mod cipher;
mod index;
#[cfg(test)]
mod tests;

use std::fmt;

pub use cipher::MAX_TAG_LEN;
use cipher::{Cipher, Label, SessionKeys};
use index::Streams;

use super::Refusal;
use crate::rtp;

/// Octets that protection adds to an RTCP packet beside the tag: E flag and index, section 3.4.
const RTCP_INDEX_LEN: usize = 4;

/// The part of an RTCP packet that is never encrypted: first header and sender, section 3.4.
const RTCP_CLEAR_LEN: usize = 8;

/// E flag of SRTCP: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;

/// Most octets that protection adds to a packet.
pub const MAX_OVERHEAD: usize = MAX_TAG_LEN + RTCP_INDEX_LEN;

/// Algorithms of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES in counter mode, authenticated with 80 bits of HMAC-SHA1.
    AesCm128HmacSha1Tag80,
    /// The same with 32 bits for RTP; RTCP keeps 80, RFC 4568 section 6.2.2.
    AesCm128HmacSha1Tag32,
    /// AES-GCM with a key of 128 bits.
    AeadAes128Gcm,
    /// AES-GCM with a key of 256 bits.
    AeadAes256Gcm,
}

impl Suite {
    /// The suite of a name as SDP has it, RFC 4568 section 6.2 and RFC 7714 section 14.2.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let suites = [
            Self::AesCm128HmacSha1Tag80,
            Self::AesCm128HmacSha1Tag32,
            Self::AeadAes128Gcm,
            Self::AeadAes256Gcm,
        ];
        suites.into_iter().find(|suite| suite.name() == name)
    }

    /// Its name in SDP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Octets of the master key.
    #[must_use]
    pub fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            _ => 16,
        }
    }

    /// Octets of the master salt.
    #[must_use]
    pub fn salt_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1Tag80 | Self::AesCm128HmacSha1Tag32 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }
}

/// Master key and master salt of one direction. Its `Debug` shows the suite only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    octets: [u8; MasterKey::MAX_LEN],
}

impl MasterKey {
    const MAX_LEN: usize = 44;

    /// The key followed by the salt; `None` unless it has the length that the suite asks for.
    #[must_use]
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Option<Self> {
        if key_and_salt.len() != suite.key_len() + suite.salt_len() {
            return None;
        }
        let mut octets = [0; Self::MAX_LEN];
        octets[..key_and_salt.len()].copy_from_slice(key_and_salt);
        Some(Self { suite, octets })
    }

    /// The algorithms it is for.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    fn key(&self) -> &[u8] {
        &self.octets[..self.suite.key_len()]
    }

    fn salt(&self) -> &[u8] {
        &self.octets[self.suite.key_len()..][..self.suite.salt_len()]
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MasterKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// One direction of a session that protects what we send.
#[derive(Debug)]
pub struct Protector {
    rtp: Cipher,
    rtcp: Cipher,
    streams: Streams,
    next_rtcp_index: u32,
}

/// One direction of a session that unprotects what we receive.
#[derive(Debug)]
pub struct Unprotector {
    rtp: Cipher,
    rtcp: Cipher,
    streams: Streams,
    rtcp_streams: Streams,
}

impl Protector {
    /// Derives the session keys, section 4.3.
    #[must_use]
    pub fn new(key: &MasterKey) -> Self {
        Self {
            rtp: Cipher::new(SessionKeys::derive(key, Label::RTP), false),
            rtcp: Cipher::new(SessionKeys::derive(key, Label::RTCP), true),
            streams: Streams::default(),
            next_rtcp_index: 0,
        }
    }

    /// Protects the RTP packet in `buffer[..len]` and returns its new length. `None` when the
    /// packet is none, the buffer has no room, or the key's life is over: then it must not leave.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let header = rtp_header(buffer.get(..len)?)?;
        let protected_len = len + self.rtp.tag_len();
        let buffer = buffer.get_mut(..protected_len)?;
        let rollover = self.streams.sent(header.ssrc, header.sequence)?;
        self.rtp.seal_rtp(buffer, &header, len, rollover).then_some(protected_len)
    }

    /// Protects the RTCP packet in `buffer[..len]` and returns its new length, or `None` as above.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        if len < RTCP_CLEAR_LEN || self.next_rtcp_index >= ENCRYPTED {
            return None;
        }
        let protected_len = len + self.rtcp.tag_len() + RTCP_INDEX_LEN;
        let buffer = buffer.get_mut(..protected_len)?;
        let index = self.next_rtcp_index;
        self.next_rtcp_index += 1;
        self.rtcp.seal_rtcp(buffer, len, index).then_some(protected_len)
    }
}

impl Unprotector {
    /// Derives the session keys, section 4.3.
    #[must_use]
    pub fn new(key: &MasterKey) -> Self {
        Self {
            rtp: Cipher::new(SessionKeys::derive(key, Label::RTP), false),
            rtcp: Cipher::new(SessionKeys::derive(key, Label::RTCP), true),
            streams: Streams::default(),
            rtcp_streams: Streams::default(),
        }
    }

    /// Unprotects an RTP packet in place and returns the length of what is left.
    ///
    /// # Errors
    /// When the packet is none, was seen before, or is not authentic.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, Refusal> {
        let header = rtp_header(packet).ok_or(Refusal::Malformed)?;
        let len = packet.len().checked_sub(self.rtp.tag_len()).ok_or(Refusal::Malformed)?;
        if len < header.len {
            return Err(Refusal::Malformed);
        }
        let candidate = self.streams.received(header.ssrc, header.sequence);
        if candidate.replayed {
            return Err(Refusal::Replayed);
        }
        if !self.rtp.open_rtp(packet, &header, len, candidate.rollover()) {
            return Err(Refusal::Forged);
        }
        self.streams.accept(&candidate);
        Ok(len)
    }

    /// Unprotects an RTCP packet in place and returns the length of what is left.
    ///
    /// # Errors
    /// When the packet is none, was seen before, or is not authentic.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refusal> {
        let overhead = self.rtcp.tag_len() + RTCP_INDEX_LEN;
        let len = packet.len().checked_sub(overhead).ok_or(Refusal::Malformed)?;
        if len < RTCP_CLEAR_LEN || packet[0] >> 6 != 2 {
            return Err(Refusal::Malformed);
        }
        let ssrc = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let word = self.rtcp.rtcp_word(packet, len);
        let candidate = self.rtcp_streams.received_at(ssrc, (word & !ENCRYPTED).into());
        if candidate.replayed {
            return Err(Refusal::Replayed);
        }
        if !self.rtcp.open_rtcp(packet, len, ssrc, word) {
            return Err(Refusal::Forged);
        }
        self.rtcp_streams.accept(&candidate);
        Ok(len)
    }
}

/// What protection needs to know of an RTP header.
#[derive(Clone, Copy, Debug)]
struct RtpHeader {
    /// Fixed header, CSRCs and extension: what is authenticated but not encrypted.
    len: usize,
    sequence: u16,
    ssrc: u32,
}

/// Reads the header alone: padding is encrypted with the payload, so `rtp::Packet` cannot.
fn rtp_header(packet: &[u8]) -> Option<RtpHeader> {
    let (fixed, rest) = packet.split_first_chunk::<{ rtp::HEADER_LEN }>()?;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    let mut len = usize::from(fixed[0] & 0x0f) * 4;
    if fixed[0] & 0x10 != 0 {
        let extension = rest.get(len..len + 4)?;
        len += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
    }
    (len <= rest.len()).then_some(RtpHeader {
        len: rtp::HEADER_LEN + len,
        sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
        ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
    })
}
