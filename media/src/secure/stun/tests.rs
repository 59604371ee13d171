use proptest::prelude::*;

use super::*;

pub(in crate::secure) const USE_CANDIDATE: (u16, &[u8]) = (attribute::USE_CANDIDATE, &[]);
pub(in crate::secure) const CONTROLLED: (u16, &[u8]) = (attribute::ICE_CONTROLLED, &[7; 8]);
pub(in crate::secure) const UNHEARD_OF: (u16, &[u8]) = (0x0077, b"what");

/// A binding request as a browser sends it.
pub(in crate::secure) fn request(
    username: &str,
    password: &str,
    attributes: &[(u16, &[u8])],
) -> Vec<u8> {
    let mut message = Response::new(message_type::REQUEST, &[9; 12]);
    message.attribute(attribute::USERNAME, username.as_bytes());
    message.attribute(attribute::PRIORITY, &[0x6e, 0, 1, 0xff]);
    for (kind, value) in attributes {
        message.attribute(*kind, value);
    }
    message.signed(password.as_bytes()).finish().octets().to_vec()
}

/// The class of a response, and its error code if it has one.
pub(in crate::secure) fn outcome(response: &Response) -> (bool, Option<u16>) {
    let octets = response.octets();
    assert!(check_fingerprint(octets).is_ok());
    let mut start = HEADER_LEN;
    let mut code = None;
    while let Some((kind, value, next)) = attribute_at(octets, start) {
        if kind == attribute::ERROR_CODE {
            code = Some(u16::from(value[2]) * 100 + u16::from(value[3]));
        }
        start = next;
    }
    (octets[..2] == message_type::SUCCESS.to_be_bytes(), code)
}

/// RFC 5769 section 2.1.
const SAMPLE: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\
    \xdf\xae\x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\
    \x2f\xf9\xb1\x51\x26\x3b\x36\x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
    \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\
    \xa2\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
const SAMPLE_PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

#[test]
fn the_sample_request_is_read_and_verified() {
    let Ok(Message::Request(request)) = Message::parse(SAMPLE) else { panic!() };
    assert_eq!(request.username, Some(b"evtj:h6vY".as_slice()));
    assert_eq!((request.nominates, request.controlled, request.unknown), (false, true, None));
    assert!(request.is_signed() && request.is_authentic(SAMPLE_PASSWORD));
    assert!(!request.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBs"));
}

#[test]
fn addresses_are_written_as_in_the_sample_responses() {
    let transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
    let ipv4 = Response::success(&transaction, "192.0.2.1:32853".parse().unwrap());
    assert_eq!(ipv4.octets()[HEADER_LEN..], *b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
    let mapped = Response::success(&transaction, "[::ffff:192.0.2.1]:32853".parse().unwrap());
    assert_eq!(mapped.octets(), ipv4.octets());
    let ipv6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
    let expected = b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\
        \xb5\xbe\xd2\xb9\xd9";
    assert_eq!(Response::success(&transaction, ipv6).octets()[HEADER_LEN..], *expected);
}

#[test]
fn a_response_is_signed_and_fits() {
    let from = "[2001:db8::1]:1".parse().unwrap();
    let response = Response::success(&[1; 12], from).signed(b"password").finish();
    assert_eq!(outcome(&response), (true, None));
    let unknown = Response::error(&[1; 12], 420, "A reason that is longer than any of ours");
    assert_eq!(outcome(&unknown.with_unknown(9).signed(b"p").finish()), (false, Some(420)));
}

#[test]
fn what_stands_behind_the_integrity_is_not_believed() {
    let mut message = Response::new(message_type::REQUEST, &[9; 12]);
    message.attribute(attribute::USERNAME, b"a:b");
    let mut message = message.signed(b"password");
    message.attribute(attribute::USE_CANDIDATE, &[]);
    let message = message.finish();
    let Ok(Message::Request(request)) = Message::parse(message.octets()) else { panic!() };
    assert!(request.is_authentic(b"password"));
    assert!(!request.nominates);
}

#[test]
fn other_messages_say_why_they_are_none() {
    assert_eq!(Message::parse(&SAMPLE[..19]), Err(Malformed::Truncated));
    assert_eq!(Message::parse(&SAMPLE[..SAMPLE.len() - 4]), Err(Malformed::Truncated));
    let mut message = SAMPLE.to_vec();
    message[4] = 0;
    assert_eq!(Message::parse(&message), Err(Malformed::Cookie));
    for place in (0..SAMPLE.len()).filter(|place| !(2..8).contains(place)) {
        let mut message = SAMPLE.to_vec();
        message[place] ^= 1;
        assert_eq!(Message::parse(&message), Err(Malformed::Fingerprint));
    }
    let indication = Response::new(message_type::INDICATION, &[9; 12]).finish();
    assert_eq!(Message::parse(indication.octets()), Ok(Message::Indication));
    let success = Response::new(message_type::SUCCESS, &[9; 12]).finish();
    assert_eq!(Message::parse(success.octets()), Err(Malformed::Type));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), whole: bool) {
        if whole && bytes.len() >= HEADER_LEN + 8 {
            // Past the checks of the header, into the attributes.
            let len = bytes.len() - bytes.len() % 4;
            bytes.truncate(len);
            bytes[..2].copy_from_slice(&message_type::REQUEST.to_be_bytes());
            bytes[2..4].copy_from_slice(&((len - HEADER_LEN) as u16).to_be_bytes());
            bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
            bytes[len - 8..len - 4].copy_from_slice(&[0x80, 0x28, 0, 4]);
            let checksum = crc32(&bytes[..len - 8]) ^ FINGERPRINT_MIX;
            bytes[len - 4..].copy_from_slice(&checksum.to_be_bytes());
        }
        if let Ok(Message::Request(request)) = Message::parse(&bytes) {
            prop_assert!(!request.is_authentic(b"password"));
        }
    }

    #[test]
    fn requests_are_read_back(
        username in "[a-z]{1,9}:[a-z]{1,40}", password in "[a-z]{0,40}", nominates: bool,
    ) {
        let attributes = if nominates { vec![USE_CANDIDATE] } else { vec![] };
        let octets = request(&username, &password, &attributes);
        let Ok(Message::Request(request)) = Message::parse(&octets) else { panic!() };
        prop_assert_eq!(request.username, Some(username.as_bytes()));
        prop_assert_eq!(request.nominates, nominates);
        prop_assert!(request.is_authentic(password.as_bytes()));
    }
}
