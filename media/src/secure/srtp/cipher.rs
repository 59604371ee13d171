//! The transforms: AES in counter mode with HMAC-SHA1 (RFC 3711 section 4) and AES-GCM (RFC 7714).

use std::fmt;

use aes::cipher::common::InnerIvInit;
use aes::cipher::{
    Array, BlockCipherEncrypt, KeyInit, StreamCipherCore,
    consts::{U12, U16, U64},
};
use aes::{Aes128Enc, Aes256Enc};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ctr::{CtrCore, flavors::Ctr128BE};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{ENCRYPTED, MasterKey, RTCP_CLEAR_LEN, RTCP_INDEX_LEN, RtpHeader, Suite};

/// Longest authentication tag, that of AES-GCM.
pub const MAX_TAG_LEN: usize = GCM_TAG_LEN;

const GCM_TAG_LEN: usize = 16;
const GCM_SALT_LEN: usize = 12;
const CM_SALT_LEN: usize = 14;
const CM_TAG_LEN: usize = 10;
const CM_SHORT_TAG_LEN: usize = 4;
const AUTH_KEY_LEN: usize = 20;

/// Which session keys: the first label of three, section 4.3.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(u8);

impl Label {
    pub(super) const RTP: Self = Self(0);
    pub(super) const RTCP: Self = Self(3);
}

/// Keys of RTP or of RTCP in one direction, derived from the master key at a rate of zero.
pub(super) struct SessionKeys {
    pub(super) suite: Suite,
    pub(super) key: [u8; 32],
    pub(super) auth: [u8; AUTH_KEY_LEN],
    pub(super) salt: [u8; CM_SALT_LEN],
}

impl SessionKeys {
    /// Section 4.3.1. A master salt of 96 bits is filled up with zeros on the right, RFC 7714
    /// section 11; a master key of 256 bits makes the function AES-256, RFC 6188 section 3.
    pub(super) fn derive(master: &MasterKey, Label(first): Label) -> Self {
        let mut keys =
            Self { suite: master.suite, key: [0; 32], auth: [0; 20], salt: [0; CM_SALT_LEN] };
        let key_len = master.suite.key_len();
        let salt_len = master.suite.salt_len();
        pseudo_random(master, first, &mut keys.key[..key_len]);
        pseudo_random(master, first + 1, &mut keys.auth);
        pseudo_random(master, first + 2, &mut keys.salt[..salt_len]);
        keys
    }
}

/// Fills `out` with the key stream of a label.
fn pseudo_random(master: &MasterKey, label: u8, out: &mut [u8]) {
    let mut counter = [0; 16];
    counter[..master.salt().len()].copy_from_slice(master.salt());
    counter[7] ^= label;
    out.fill(0);
    match <[u8; 32]>::try_from(master.key()) {
        Ok(key) => apply_counter_mode(&Aes256Enc::new(&Array(key)), counter, out),
        Err(_) => {
            let mut key = [0; 16];
            key.copy_from_slice(master.key());
            apply_counter_mode(&Aes128Enc::new(&Array(key)), counter, out);
        }
    }
}

pub(super) fn apply_counter_mode<Aes>(aes: &Aes, counter: [u8; 16], data: &mut [u8])
where
    Aes: BlockCipherEncrypt<BlockSize = U16>,
{
    // No packet comes near the 2^16 blocks after which the counter would touch the index.
    CtrCore::<&Aes, Ctr128BE>::inner_iv_init(aes, &Array(counter))
        .apply_keystream_partial(data.into());
}

/// A transform with its session keys.
pub(super) enum Cipher {
    Counter { aes: Aes128Enc, mac: Hmac<Sha1>, salt: [u8; CM_SALT_LEN], tag_len: usize },
    Gcm128 { gcm: Aes128Gcm, salt: [u8; GCM_SALT_LEN] },
    Gcm256 { gcm: Aes256Gcm, salt: [u8; GCM_SALT_LEN] },
}

impl fmt::Debug for Cipher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cipher")
    }
}

impl Cipher {
    pub(super) fn new(keys: SessionKeys, rtcp: bool) -> Self {
        let [gcm_salt @ .., _, _] = keys.salt;
        let [half @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = keys.key;
        let short = keys.suite == Suite::AesCm128HmacSha1Tag32 && !rtcp;
        match keys.suite {
            Suite::AesCm128HmacSha1Tag80 | Suite::AesCm128HmacSha1Tag32 => Self::Counter {
                aes: Aes128Enc::new(&Array(half)),
                // HMAC pads a key of any length up to its block of 64 octets.
                mac: KeyInit::new(&padded_key(&keys.auth)),
                salt: keys.salt,
                tag_len: if short { CM_SHORT_TAG_LEN } else { CM_TAG_LEN },
            },
            Suite::AeadAes128Gcm => {
                Self::Gcm128 { gcm: Aes128Gcm::new(&Array(half)), salt: gcm_salt }
            }
            Suite::AeadAes256Gcm => {
                Self::Gcm256 { gcm: Aes256Gcm::new(&Array(keys.key)), salt: gcm_salt }
            }
        }
    }

    pub(super) fn tag_len(&self) -> usize {
        match self {
            Self::Counter { tag_len, .. } => *tag_len,
            Self::Gcm128 { .. } | Self::Gcm256 { .. } => GCM_TAG_LEN,
        }
    }

    /// Encrypts `packet[header.len..len]` and writes the tag behind it; false when it cannot.
    pub(super) fn seal_rtp(
        &self,
        packet: &mut [u8],
        header: &RtpHeader,
        len: usize,
        rollover: u32,
    ) -> bool {
        let (body, tag) = packet.split_at_mut(len);
        let (clear, payload) = body.split_at_mut(header.len);
        match self {
            Self::Counter { aes, mac, salt, tag_len } => {
                let index = u64::from(rollover) << 16 | u64::from(header.sequence);
                apply_counter_mode(aes, counter(salt, header.ssrc, index), payload);
                let full = authenticate(mac, &[clear, payload, &rollover.to_be_bytes()]);
                tag.copy_from_slice(&full[..*tag_len]);
                true
            }
            Self::Gcm128 { gcm, salt } => {
                seal(gcm, &rtp_nonce(salt, header, rollover), clear, payload, tag)
            }
            Self::Gcm256 { gcm, salt } => {
                seal(gcm, &rtp_nonce(salt, header, rollover), clear, payload, tag)
            }
        }
    }

    /// Whether the packet is authentic; then `packet[header.len..len]` is decrypted.
    pub(super) fn open_rtp(
        &self,
        packet: &mut [u8],
        header: &RtpHeader,
        len: usize,
        rollover: u32,
    ) -> bool {
        let (body, tag) = packet.split_at_mut(len);
        let (clear, payload) = body.split_at_mut(header.len);
        match self {
            Self::Counter { aes, mac, salt, .. } => {
                let authentic = verify(mac, &[clear, payload, &rollover.to_be_bytes()], tag);
                if authentic {
                    let index = u64::from(rollover) << 16 | u64::from(header.sequence);
                    apply_counter_mode(aes, counter(salt, header.ssrc, index), payload);
                }
                authentic
            }
            Self::Gcm128 { gcm, salt } => {
                open(gcm, &rtp_nonce(salt, header, rollover), clear, payload, tag)
            }
            Self::Gcm256 { gcm, salt } => {
                open(gcm, &rtp_nonce(salt, header, rollover), clear, payload, tag)
            }
        }
    }

    /// The E flag and index of an RTCP packet whose plain part ends at `len`. With HMAC the tag
    /// comes last, with GCM the index does: RFC 3711 section 3.4, RFC 7714 section 9.2.
    pub(super) fn rtcp_word(&self, packet: &[u8], len: usize) -> u32 {
        let start = self.rtcp_word_start(len);
        let mut word = [0; RTCP_INDEX_LEN];
        word.copy_from_slice(&packet[start..start + RTCP_INDEX_LEN]);
        u32::from_be_bytes(word)
    }

    fn rtcp_word_start(&self, len: usize) -> usize {
        match self {
            Self::Counter { .. } => len,
            Self::Gcm128 { .. } | Self::Gcm256 { .. } => len + GCM_TAG_LEN,
        }
    }

    /// Encrypts all of `packet[..len]` but its first octets and writes index and tag behind it.
    pub(super) fn seal_rtcp(&self, packet: &mut [u8], len: usize, index: u32) -> bool {
        let ssrc = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let word = (ENCRYPTED | index).to_be_bytes();
        let (body, trailer) = packet.split_at_mut(len);
        let (clear, payload) = body.split_at_mut(RTCP_CLEAR_LEN);
        match self {
            Self::Counter { aes, mac, salt, tag_len } => {
                apply_counter_mode(aes, counter(salt, ssrc, index.into()), payload);
                let full = authenticate(mac, &[clear, payload, &word]);
                trailer[..RTCP_INDEX_LEN].copy_from_slice(&word);
                trailer[RTCP_INDEX_LEN..].copy_from_slice(&full[..*tag_len]);
                true
            }
            Self::Gcm128 { gcm, salt } => {
                let (tag, place) = trailer.split_at_mut(GCM_TAG_LEN);
                place.copy_from_slice(&word);
                seal(gcm, &rtcp_nonce(salt, ssrc, index), &rtcp_head(clear, word), payload, tag)
            }
            Self::Gcm256 { gcm, salt } => {
                let (tag, place) = trailer.split_at_mut(GCM_TAG_LEN);
                place.copy_from_slice(&word);
                seal(gcm, &rtcp_nonce(salt, ssrc, index), &rtcp_head(clear, word), payload, tag)
            }
        }
    }

    /// Whether the packet is authentic and encrypted; then `packet[..len]` is decrypted. Both
    /// ends of every session here agree on encryption, so a packet without it is refused.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], len: usize, ssrc: u32, word: u32) -> bool {
        if word & ENCRYPTED == 0 {
            return false;
        }
        let index = word & !ENCRYPTED;
        let word = word.to_be_bytes();
        let (body, trailer) = packet.split_at_mut(len);
        let (clear, payload) = body.split_at_mut(RTCP_CLEAR_LEN);
        match self {
            Self::Counter { aes, mac, salt, .. } => {
                let authentic = verify(mac, &[clear, payload, &word], &trailer[RTCP_INDEX_LEN..]);
                if authentic {
                    apply_counter_mode(aes, counter(salt, ssrc, index.into()), payload);
                }
                authentic
            }
            Self::Gcm128 { gcm, salt } => {
                let (nonce, tag) = (rtcp_nonce(salt, ssrc, index), &trailer[..GCM_TAG_LEN]);
                open(gcm, &nonce, &rtcp_head(clear, word), payload, tag)
            }
            Self::Gcm256 { gcm, salt } => {
                let (nonce, tag) = (rtcp_nonce(salt, ssrc, index), &trailer[..GCM_TAG_LEN]);
                open(gcm, &nonce, &rtcp_head(clear, word), payload, tag)
            }
        }
    }
}

fn padded_key(key: &[u8; AUTH_KEY_LEN]) -> Array<u8, U64> {
    let mut padded = [0; 64];
    padded[..AUTH_KEY_LEN].copy_from_slice(key);
    Array(padded)
}

/// The counter block of RFC 3711 section 4.1.1.
fn counter(salt: &[u8; CM_SALT_LEN], ssrc: u32, index: u64) -> [u8; 16] {
    let mut counter = [0; 16];
    counter[..CM_SALT_LEN].copy_from_slice(salt);
    mix(&mut counter[4..8], &ssrc.to_be_bytes());
    mix(&mut counter[8..14], &index.to_be_bytes()[2..]);
    counter
}

/// RFC 7714 section 8.1.
fn rtp_nonce(salt: &[u8; GCM_SALT_LEN], header: &RtpHeader, rollover: u32) -> [u8; GCM_SALT_LEN] {
    let mut nonce = *salt;
    mix(&mut nonce[2..6], &header.ssrc.to_be_bytes());
    mix(&mut nonce[6..10], &rollover.to_be_bytes());
    mix(&mut nonce[10..], &header.sequence.to_be_bytes());
    nonce
}

/// RFC 7714 section 9.1.
fn rtcp_nonce(salt: &[u8; GCM_SALT_LEN], ssrc: u32, index: u32) -> [u8; GCM_SALT_LEN] {
    let mut nonce = *salt;
    mix(&mut nonce[2..6], &ssrc.to_be_bytes());
    mix(&mut nonce[8..], &index.to_be_bytes());
    nonce
}

/// What GCM authenticates of an RTCP packet without encrypting it, RFC 7714 section 9.2.
fn rtcp_head(clear: &[u8], word: [u8; RTCP_INDEX_LEN]) -> [u8; RTCP_CLEAR_LEN + RTCP_INDEX_LEN] {
    let mut head = [0; RTCP_CLEAR_LEN + RTCP_INDEX_LEN];
    head[..RTCP_CLEAR_LEN].copy_from_slice(clear);
    head[RTCP_CLEAR_LEN..].copy_from_slice(&word);
    head
}

fn mix(octets: &mut [u8], with: &[u8]) {
    octets.iter_mut().zip(with).for_each(|(octet, with)| *octet ^= with);
}

fn authenticate(mac: &Hmac<Sha1>, parts: &[&[u8]]) -> [u8; 20] {
    keyed(mac, parts).finalize().into_bytes().into()
}

/// Compares in constant time.
fn verify(mac: &Hmac<Sha1>, parts: &[&[u8]], tag: &[u8]) -> bool {
    keyed(mac, parts).verify_truncated_left(tag).is_ok()
}

fn keyed(mac: &Hmac<Sha1>, parts: &[&[u8]]) -> Hmac<Sha1> {
    let mut mac = mac.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// False when the cipher refuses, which it does for lengths far above those of any datagram.
fn seal<Gcm>(gcm: &Gcm, nonce: &[u8; 12], clear: &[u8], payload: &mut [u8], tag: &mut [u8]) -> bool
where
    Gcm: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let made = gcm.encrypt_inout_detached(&Array(*nonce), clear, payload.into());
    made.map(|made| tag.copy_from_slice(&made)).is_ok()
}

fn open<Gcm>(gcm: &Gcm, nonce: &[u8; 12], clear: &[u8], payload: &mut [u8], tag: &[u8]) -> bool
where
    Gcm: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let Ok(tag) = <[u8; GCM_TAG_LEN]>::try_from(tag) else { return false };
    gcm.decrypt_inout_detached(&Array(*nonce), clear, payload.into(), &Array(tag)).is_ok()
}
