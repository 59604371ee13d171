use std::time::Duration;

use proptest::prelude::*;

use super::*;

const BLOCK: ReportBlock = ReportBlock {
    ssrc: Ssrc(0x0a0b_0c0d),
    fraction_lost: 12,
    lost: -3,
    highest: 0x0001_fffe,
    jitter: 77,
    last_sr: 0x1234_5678,
    delay_since_last_sr: 0x0001_8000,
};

const SENDER: SenderInfo = SenderInfo {
    ntp: NtpTime(0xe123_4567_89ab_cdef),
    timestamp: RtpTimestamp(160),
    packets: 50,
    octets: 8000,
};

fn written(compound: &Compound<'_>) -> Vec<u8> {
    let mut out = [0; MAX_LEN];
    let len = compound.write(&mut out);
    out[..len].to_vec()
}

fn compound() -> Compound<'static> {
    let cname = "AbCdEfGhIjKlMnOp";
    Compound { ssrc: Ssrc(7), sender: Some(SENDER), block: Some(BLOCK), cname, goodbye: true }
}

#[test]
fn what_is_written_is_parsed() {
    let datagram = written(&compound());
    assert!(is_rtcp(&datagram));
    let packets: Vec<_> = parse(&datagram).unwrap().collect();
    let [report, Packet::SourceDescription, goodbye] = &packets[..] else {
        panic!("{packets:?}");
    };
    assert!(matches!(report, Packet::Report { ssrc: Ssrc(7), sender: Some(SENDER), .. }));
    assert_eq!(report.blocks().collect::<Vec<_>>(), [BLOCK]);
    assert_eq!(*goodbye, Packet::Goodbye { ssrc: Some(Ssrc(7)) });
}

#[test]
fn a_compound_is_laid_out_as_the_rfc_says() {
    let plain = Compound { sender: None, block: None, goodbye: false, ..compound() };
    let datagram = written(&plain);
    assert_eq!(&datagram[..8], [0x80, 201, 0, 1, 0, 0, 0, 7]);
    // Source, item 1 of 16 octets, two nulls: 6 words and the header.
    assert_eq!(&datagram[8..18], [0x81, 202, 0, 6, 0, 0, 0, 7, 1, 16]);
    assert_eq!(&datagram[18..], b"AbCdEfGhIjKlMnOp\0\0");
    let longest = written(&compound());
    assert!(longest.len() <= MAX_LEN && longest.len().is_multiple_of(4));
    // A name that fills its words still has a null behind it.
    let named = Compound { cname: "ab", ..plain };
    assert_eq!(&written(&named)[16..], [1, 2, b'a', b'b', 0, 0, 0, 0]);
}

#[test]
fn reduced_size_and_unknown_packets_are_tolerated() {
    let feedback = [0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let packets: Vec<_> = parse(&feedback).unwrap().collect();
    assert_eq!(packets, [Packet::Other(205)]);
    let nobody = [0x80, 203, 0, 0];
    let packets: Vec<_> = parse(&nobody).unwrap().collect();
    assert_eq!(packets, [Packet::Goodbye { ssrc: None }]);
}

#[test]
fn invalid_compounds_are_refused_whole() {
    let good = written(&compound());
    let spoilt = |at: usize, octet: u8| {
        let mut datagram = good.clone();
        datagram[at] = octet;
        parse(&datagram).err()
    };
    assert_eq!(parse(&[]).err(), Some(Malformed::Type));
    assert_eq!(spoilt(1, 96), Some(Malformed::Type));
    assert_eq!(spoilt(0, 0x41), Some(Malformed::Version));
    assert_eq!(spoilt(0, 0x82), Some(Malformed::Length), "a second block that is not there");
    assert_eq!(spoilt(3, 200), Some(Malformed::Length));
    assert_eq!(spoilt(0, 0xa1), Some(Malformed::Padding), "not the last packet");
    assert_eq!(parse(&good[..good.len() - 1]).err(), Some(Malformed::Length));
    let padded = [0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4];
    assert_eq!(parse(&padded).unwrap().count(), 1);
    for padding in [0, 3, 12] {
        let mut datagram = padded;
        datagram[11] = padding;
        assert_eq!(parse(&datagram).err(), Some(Malformed::Padding));
    }
}

#[test]
fn rtp_and_rtcp_are_told_apart_on_one_port() {
    assert!(is_rtcp(&[0x81, 200, 0, 0]));
    assert!(is_rtcp(&[0x80, 201]));
    assert!(!is_rtcp(&[0x80, 8, 0, 0]), "PCMA");
    assert!(!is_rtcp(&[0x80, 0x80 | 13, 0, 0]), "comfort noise with a marker");
    assert!(!is_rtcp(&[0x80, 0x80 | 101, 0, 0]), "a digit with a marker");
    assert!(!is_rtcp(&[0x00, 200]), "STUN");
    assert!(!is_rtcp(&[]));
}

#[test]
fn ntp_time_counts_from_1900() {
    let half = NtpTime::since_1900(Duration::from_millis(1500));
    assert_eq!(half, NtpTime(0x0000_0001_8000_0000));
    assert_eq!(half.middle(), 0x0001_8000);
}

proptest! {
    #[test]
    fn any_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 192u8..=223,
    ) {
        if bytes.len() > 1 {
            bytes[0] = 0x80 | bytes[0] & 0x3f;
            bytes[1] = kind;
        }
        if let Ok(packets) = parse(&bytes) {
            for packet in packets {
                prop_assert!(packet.blocks().count() <= 31);
            }
        }
    }
}
