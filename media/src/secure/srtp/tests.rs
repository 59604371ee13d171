use aes::Aes128Enc;
use aes::cipher::{Array, KeyInit};
use proptest::prelude::*;

use super::cipher::apply_counter_mode;
use super::*;
use crate::rtp::{HEADER_LEN, Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};

const SUITES: [Suite; 4] = [
    Suite::AesCm128HmacSha1Tag80,
    Suite::AesCm128HmacSha1Tag32,
    Suite::AeadAes128Gcm,
    Suite::AeadAes256Gcm,
];

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hexadecimal.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn array<const N: usize>(hexadecimal: &str) -> [u8; N] {
    bytes(hexadecimal).try_into().unwrap()
}

fn key(suite: Suite) -> MasterKey {
    let octets: Vec<u8> = (0..suite.key_len() + suite.salt_len()).map(|n| n as u8 * 3).collect();
    MasterKey::new(suite, &octets).unwrap()
}

fn pair(suite: Suite) -> (Protector, Unprotector) {
    (Protector::new(&key(suite)), Unprotector::new(&key(suite)))
}

fn packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let packet = Packet {
        marker: false,
        pt: Pt(8),
        sequence: SequenceNumber(sequence),
        timestamp: RtpTimestamp(160),
        ssrc: Ssrc(0xcafe_babe),
        payload,
    };
    let mut out = vec![0; HEADER_LEN + payload.len()];
    packet.write(&mut out);
    out
}

fn protect(protector: &mut Protector, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + MAX_OVERHEAD, 0);
    let len = protector.protect_rtp(&mut buffer, packet.len()).unwrap();
    buffer.truncate(len);
    buffer
}

fn unprotect(unprotector: &mut Unprotector, packet: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut buffer = packet.to_vec();
    let len = unprotector.unprotect_rtp(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// A receiver report without blocks and a source description, as far as SRTCP cares.
const REPORT: [u8; 20] =
    [0x80, 201, 0, 1, 0xca, 0xfe, 0xba, 0xbe, 0x81, 202, 0, 2, 0, 0, 0, 1, 1, 1, 65, 0];

fn protect_rtcp(protector: &mut Protector) -> Vec<u8> {
    let mut buffer = REPORT.to_vec();
    buffer.resize(REPORT.len() + MAX_OVERHEAD, 0);
    let len = protector.protect_rtcp(&mut buffer, REPORT.len()).unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn counter_mode_makes_the_key_stream_of_rfc_3711_b_2() {
    let aes = Aes128Enc::new(&Array(array("2B7E151628AED2A6ABF7158809CF4F3C")));
    let mut stream = [0; 48];
    apply_counter_mode(&aes, array("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000"), &mut stream);
    let expected = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
        41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream.as_slice(), bytes(expected));
}

#[test]
fn session_keys_are_those_of_rfc_3711_b_3() {
    let master = "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6";
    let master = MasterKey::new(Suite::AesCm128HmacSha1Tag80, &bytes(master)).unwrap();
    let keys = SessionKeys::derive(&master, Label::RTP);
    assert_eq!(keys.key[..16], bytes("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(keys.salt, *bytes("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(keys.auth, *bytes("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
}

#[test]
fn a_protected_packet_is_what_other_implementations_make_of_it() {
    let master = "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6";
    let master = MasterKey::new(Suite::AesCm128HmacSha1Tag80, &bytes(master)).unwrap();
    let plain = bytes("800f1234decafbadcafebabe abababababababababababababababab");
    let expected = "800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb";
    assert_eq!(protect(&mut Protector::new(&master), &plain), bytes(expected));
}

#[test]
fn gcm_makes_the_packets_of_rfc_7714_16() {
    let plain = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
        69736120 696e2070 61727465 73207472 6573";
    let with_128 = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
        0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce";
    let with_256 = "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
        9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13";
    for (suite, expected) in [(Suite::AeadAes128Gcm, with_128), (Suite::AeadAes256Gcm, with_256)] {
        let mut salt = [0; 14];
        salt[..12].copy_from_slice(b"Quid pro quo");
        let octets: Vec<u8> = (0..32).collect();
        let mut key: [u8; 32] = octets.try_into().unwrap();
        if suite == Suite::AeadAes128Gcm {
            key[16..].fill(0);
        }
        let cipher = Cipher::new(SessionKeys { suite, key, auth: [0; 20], salt }, false);
        let mut packet = bytes(plain);
        let (header, len) = (rtp_header(&packet).unwrap(), packet.len());
        packet.resize(len + cipher.tag_len(), 0);
        assert!(cipher.seal_rtp(&mut packet, &header, len, 0));
        assert_eq!(packet, bytes(expected), "{suite:?}");
    }
}

#[test]
fn names_and_lengths_are_those_of_sdp() {
    for (name, len) in [
        ("AES_CM_128_HMAC_SHA1_80", 30),
        ("AES_CM_128_HMAC_SHA1_32", 30),
        ("AEAD_AES_128_GCM", 28),
        ("AEAD_AES_256_GCM", 44),
    ] {
        let suite = Suite::of_name(name).unwrap();
        assert!(MasterKey::new(suite, &vec![1; len]).is_some());
        assert!(MasterKey::new(suite, &vec![1; len - 1]).is_none());
    }
    assert_eq!(Suite::of_name("F8_128_HMAC_SHA1_80"), None);
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?} {:?}", key(Suite::AeadAes128Gcm), pair(Suite::AeadAes128Gcm));
    assert!(!shown.contains("[3") && !shown.contains("6, 9"), "{shown}");
}

#[test]
fn a_packet_passes_once() {
    for suite in SUITES {
        let (mut protector, mut unprotector) = pair(suite);
        let plain = packet(1, &[7; 160]);
        let sent = protect(&mut protector, &plain);
        assert_ne!(sent[HEADER_LEN..HEADER_LEN + 160], plain[HEADER_LEN..]);
        assert_eq!(unprotect(&mut unprotector, &sent), Ok(plain));
        assert_eq!(unprotect(&mut unprotector, &sent), Err(Refusal::Replayed));
    }
}

#[test]
fn a_report_passes_once() {
    for suite in SUITES {
        let (mut protector, mut unprotector) = pair(suite);
        for _ in 0..3 {
            let sent = protect_rtcp(&mut protector);
            let mut received = sent.clone();
            assert_eq!(unprotector.unprotect_rtcp(&mut received), Ok(REPORT.len()));
            assert_eq!(received[..REPORT.len()], REPORT);
            let again = unprotector.unprotect_rtcp(&mut sent.clone());
            assert_eq!(again, Err(Refusal::Replayed));
        }
    }
}

#[test]
fn every_bit_of_a_report_counts() {
    for suite in SUITES {
        let (mut protector, mut unprotector) = pair(suite);
        let sent = protect_rtcp(&mut protector);
        for bit in 0..sent.len() * 8 {
            let mut received = sent.clone();
            received[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotector.unprotect_rtcp(&mut received).is_err(), "{suite:?} bit {bit}");
        }
        assert!(unprotector.unprotect_rtcp(&mut sent.clone()).is_ok());
    }
}

#[test]
fn late_packets_pass_within_the_window_only() {
    let (mut protector, mut unprotector) = pair(Suite::AesCm128HmacSha1Tag80);
    let sent: Vec<_> =
        (0..=200).map(|sequence| protect(&mut protector, &packet(sequence, &[1]))).collect();
    assert!(unprotect(&mut unprotector, &sent[200]).is_ok());
    assert!(unprotect(&mut unprotector, &sent[73]).is_ok());
    assert_eq!(unprotect(&mut unprotector, &sent[73]), Err(Refusal::Replayed));
    assert_eq!(unprotect(&mut unprotector, &sent[72]), Err(Refusal::Replayed));
}

#[test]
fn the_sequence_may_wrap_and_packets_may_be_lost_around_it() {
    for suite in SUITES {
        let (mut protector, mut unprotector) = pair(suite);
        // 30,000 in a row are lost, a little less than half the room of a sequence number.
        for index in (30_000..300_000u32).step_by(30_001) {
            for index in index..index + 3 {
                let plain = packet(index as u16, b"voice");
                let sent = protect(&mut protector, &plain);
                assert_eq!(unprotect(&mut unprotector, &sent), Ok(plain), "{index}");
            }
        }
    }
}

#[test]
fn a_forged_packet_moves_no_counter() {
    let (mut protector, mut unprotector) = pair(Suite::AesCm128HmacSha1Tag80);
    let first = protect(&mut protector, &packet(1, b"voice"));
    assert!(unprotect(&mut unprotector, &first).is_ok());
    let mut forged = first.clone();
    forged[2..4].copy_from_slice(&30_000u16.to_be_bytes());
    assert_eq!(unprotect(&mut unprotector, &forged), Err(Refusal::Forged));
    let next = protect(&mut protector, &packet(2, b"voice"));
    assert!(unprotect(&mut unprotector, &next).is_ok());
}

#[test]
fn sources_are_counted_apart() {
    let (mut protector, mut unprotector) = pair(Suite::AeadAes128Gcm);
    for round in 0..3u16 {
        for source in 0..4u8 {
            let mut plain = packet(0x7fff - u16::from(source) * 999 + round, b"voice");
            plain[11] = source;
            let sent = protect(&mut protector, &plain);
            assert_eq!(unprotect(&mut unprotector, &sent), Ok(plain));
        }
    }
}

#[test]
fn what_is_no_packet_or_has_no_room_is_not_protected() {
    let (mut protector, _) = pair(Suite::AesCm128HmacSha1Tag80);
    let mut buffer = [0; 64];
    assert_eq!(protector.protect_rtp(&mut buffer, 20), None);
    buffer[0] = 0x80;
    assert_eq!(protector.protect_rtp(&mut buffer, 60), None);
    assert_eq!(protector.protect_rtp(&mut buffer, 65), None);
    assert_eq!(protector.protect_rtcp(&mut buffer, 7), None);
    assert_eq!(protector.protect_rtcp(&mut buffer, 60), None);
    buffer[0] = 0x9f;
    assert_eq!(protector.protect_rtp(&mut buffer, 20), None);
}

fn suites() -> impl Strategy<Value = Suite> {
    prop::sample::select(SUITES.as_slice())
}

proptest! {
    #[test]
    fn what_is_protected_is_unprotected(
        suite in suites(), sequence: u16, csrcs in 0u8..16, extension: bool,
        payload in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let mut plain = packet(sequence, b"");
        plain[0] |= csrcs | u8::from(extension) << 4;
        plain.extend(vec![5; usize::from(csrcs) * 4]);
        plain.extend(extension.then_some([0xbe, 0xde, 0, 1, 1, 2, 3, 4]).into_iter().flatten());
        plain.extend(payload);
        let (mut protector, mut unprotector) = pair(suite);
        let sent = protect(&mut protector, &plain);
        prop_assert_eq!(unprotect(&mut unprotector, &sent), Ok(plain));
    }

    #[test]
    fn any_changed_bit_is_refused(
        suite in suites(), payload in prop::collection::vec(any::<u8>(), 1..200),
        place: prop::sample::Index, bit in 0u8..8,
    ) {
        let (mut protector, mut unprotector) = pair(suite);
        let mut sent = protect(&mut protector, &packet(9, &payload));
        let place = place.index(sent.len());
        sent[place] ^= 1 << bit;
        prop_assert!(unprotect(&mut unprotector, &sent).is_err());
    }

    #[test]
    fn any_bytes_are_refused(
        suite in suites(), rtcp: bool, mut bytes in prop::collection::vec(any::<u8>(), 0..128),
    ) {
        let (_, mut unprotector) = pair(suite);
        let answer = match rtcp {
            true => unprotector.unprotect_rtcp(&mut bytes),
            false => unprotector.unprotect_rtp(&mut bytes),
        };
        prop_assert!(answer.is_err());
    }
}
