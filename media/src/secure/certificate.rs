//! The engine's own certificate, made anew at each start: RFC 8827 section 6.5 wants no authority
//! behind it, only its fingerprint in SDP.

use std::fmt;
use std::io;

use dimpl::DtlsCertificate;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey as _;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a certificate in DER, RFC 8122 section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// Reads 32 pairs of hexadecimal digits with colons between.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 32];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
            *octet = u8::from_str_radix(pair, 16).ok()?;
        }
        pairs.next().is_none().then_some(Self(octets))
    }
}

/// As SDP writes it.
impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            write!(formatter, "{}{octet:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A self-signed certificate with its key (ECDSA on P-256, which every browser knows).
///
/// # Errors
/// When the system has no randomness.
pub fn generate() -> io::Result<DtlsCertificate> {
    let key = loop {
        let random = random::<32>()?;
        // One in 2^32 draws is no valid scalar.
        if let Ok(key) = SigningKey::from_slice(&random) {
            break key;
        }
    };
    let mut serial = random::<16>()?;
    // Positive, and without a leading zero: RFC 5280 section 4.1.2.2.
    serial[0] = serial[0] & 0x7f | 0x40;
    let private_key = key.to_pkcs8_der().map_err(io::Error::other)?.as_bytes().to_vec();
    Ok(DtlsCertificate { certificate: self_signed(&key, &serial), private_key })
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty())?;
    Ok(octets)
}

/// Tags of DER, X.690 section 8.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const BIT_STRING: u8 = 0x03;
    pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(super) const UTF8_STRING: u8 = 0x0c;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const VERSION: u8 = 0xa0;
}

/// 1.2.840.10045.4.3.2, ecdsa-with-SHA256.
const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 1.2.840.10045.2.1, id-ecPublicKey.
const EC_PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7, the curve P-256.
const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 2.5.4.3, commonName.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const NAME: &[u8] = b"cti95598";

/// RFC 5280 section 4.1. It has no end (section 4.1.2.5): it lives as long as the engine.
fn self_signed(key: &SigningKey, serial: &[u8; 16]) -> Vec<u8> {
    let algorithm = der(tag::SEQUENCE, &[&der(tag::OBJECT_IDENTIFIER, &[&ECDSA_WITH_SHA256])]);
    let common_name = der(tag::OBJECT_IDENTIFIER, &[&COMMON_NAME]);
    let attribute = der(tag::SEQUENCE, &[&common_name, &der(tag::UTF8_STRING, &[NAME])]);
    let name = der(tag::SEQUENCE, &[&der(tag::SET, &[&attribute])]);
    let from = der(tag::UTC_TIME, &[b"200101000000Z"]);
    let until = der(tag::GENERALIZED_TIME, &[b"99991231235959Z"]);
    let curve = der(tag::OBJECT_IDENTIFIER, &[&P256]);
    let kind = der(tag::SEQUENCE, &[&der(tag::OBJECT_IDENTIFIER, &[&EC_PUBLIC_KEY]), &curve]);
    let point = key.verifying_key().to_sec1_point(false);
    let public_key = der(tag::SEQUENCE, &[&kind, &der(tag::BIT_STRING, &[&[0], point.as_bytes()])]);
    let contents = der(
        tag::SEQUENCE,
        &[
            // Version 3.
            &der(tag::VERSION, &[&der(tag::INTEGER, &[&[2]])]),
            &der(tag::INTEGER, &[serial]),
            &algorithm,
            &name,
            &der(tag::SEQUENCE, &[&from, &until]),
            &name,
            &public_key,
        ],
    );
    let signature: DerSignature = key.sign(&contents);
    let signature = der(tag::BIT_STRING, &[&[0], signature.as_bytes()]);
    der(tag::SEQUENCE, &[&contents, &algorithm, &signature])
}

/// One element: tag, length, the parts one after the other.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut element = vec![tag];
    match len {
        0..=0x7f => element.push(len as u8),
        0x80..=0xff => element.extend([0x81, len as u8]),
        _ => element.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    parts.iter().for_each(|part| element.extend_from_slice(part));
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_many_octets_as_they_need() {
        assert_eq!(der(4, &[&[1, 2], &[3]]), [4, 3, 1, 2, 3]);
        assert_eq!(der(4, &[&[0; 0x80]])[..3], [4, 0x81, 0x80]);
        assert_eq!(der(4, &[&[0; 0x1234]])[..4], [4, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn each_certificate_is_another() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(Fingerprint::of(&one.certificate), Fingerprint::of(&other.certificate));
    }

    #[test]
    fn fingerprints_are_read_as_they_are_written() {
        let fingerprint = Fingerprint::of(b"certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 95);
        assert_eq!(Fingerprint::parse(&text), Some(fingerprint));
        assert_eq!(Fingerprint::parse(&text.to_lowercase()), Some(fingerprint));
        for wrong in [&text[3..], &format!("{text}:00"), &text.replace(':', ""), "", "+1:"] {
            assert_eq!(Fingerprint::parse(wrong), None, "{wrong}");
        }
    }
}
