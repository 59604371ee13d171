use super::*;

const MS: Duration = Duration::from_millis(1);

struct Side {
    association: Association,
    outbox: Vec<Vec<u8>>,
    keys: Option<Keys>,
    failure: Option<Failure>,
}

impl Side {
    fn new(own: &Identity, expected: Fingerprint, active: bool) -> Self {
        let association = Association::new(own, expected, active, Duration::ZERO);
        Self { association, outbox: Vec::new(), keys: None, failure: None }
    }

    fn step(&mut self, now: Now, datagram: Option<&[u8]>) {
        let outbox = &mut self.outbox;
        let mut send = |octets: &[u8]| outbox.push(octets.to_vec());
        let progress = match datagram {
            Some(datagram) => self.association.receive(datagram, now, &mut send),
            None => self.association.poll(now, &mut send),
        };
        match progress {
            Ok(keys) => self.keys = self.keys.or(keys),
            Err(failure) => self.failure = Some(failure),
        }
    }
}

/// Lets the sides talk for a while; `lost` says of each datagram whether it gets lost.
fn talk(client: &mut Side, server: &mut Side, until: Now, mut lost: impl FnMut(usize) -> bool) {
    let mut count = 0;
    let mut now = Duration::ZERO;
    while now < until {
        client.step(now, None);
        server.step(now, None);
        while !client.outbox.is_empty() || !server.outbox.is_empty() {
            let (to_server, to_client) =
                (std::mem::take(&mut client.outbox), std::mem::take(&mut server.outbox));
            let mut arrives = || {
                count += 1;
                !lost(count - 1)
            };
            to_server.iter().filter(|_| arrives()).for_each(|datagram| {
                server.step(now, Some(datagram));
            });
            to_client.iter().filter(|_| arrives()).for_each(|datagram| {
                client.step(now, Some(datagram));
            });
        }
        now += 20 * MS;
    }
}

fn sides() -> (Side, Side) {
    let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    (Side::new(&one, other.fingerprint(), true), Side::new(&other, one.fingerprint(), false))
}

#[test]
fn both_sides_get_the_same_keys() {
    let (mut client, mut server) = sides();
    talk(&mut client, &mut server, 100 * MS, |_| false);
    let (client, server) = (client.keys.unwrap(), server.keys.unwrap());
    assert_eq!((client.local, client.remote), (server.remote, server.local));
    assert_ne!(client.local, client.remote);
}

#[test]
fn lost_datagrams_are_sent_again() {
    for first_lost in 0..4 {
        let (mut client, mut server) = sides();
        talk(&mut client, &mut server, 3000 * MS, |count| {
            (first_lost..first_lost + 2).contains(&count)
        });
        assert!(client.keys.is_some() && server.keys.is_some(), "{first_lost}");
    }
}

#[test]
fn another_certificate_gives_no_keys() {
    let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let stranger = Identity::generate().unwrap();
    let mut client = Side::new(&stranger, other.fingerprint(), true);
    let mut server = Side::new(&other, one.fingerprint(), false);
    talk(&mut client, &mut server, 100 * MS, |_| false);
    assert_eq!((server.failure, server.keys), (Some(Failure::Fingerprint), None));
    let mut client = Side::new(&one, stranger.fingerprint(), true);
    let mut server = Side::new(&other, one.fingerprint(), false);
    talk(&mut client, &mut server, 100 * MS, |_| false);
    assert_eq!((client.failure, client.keys), (Some(Failure::Fingerprint), None));
    assert!(!client.association.is_with(stranger.fingerprint(), true));
}

#[test]
fn an_answer_that_never_comes_fails_once() {
    let (mut client, mut server) = sides();
    talk(&mut client, &mut server, 2 * HANDSHAKE_LIMIT, |_| true);
    assert_eq!((client.failure, client.keys), (Some(Failure::TimedOut), None));
    client.failure = None;
    client.step(3 * HANDSHAKE_LIMIT, None);
    client.step(3 * HANDSHAKE_LIMIT, Some(&[22, 254, 253]));
    assert_eq!(client.failure, None);
    // Nobody began, so nobody waits: the call's own limits end it.
    assert_eq!(server.failure, None);
}

#[test]
fn noise_does_not_disturb_a_handshake() {
    let (mut client, mut server) = sides();
    for noise in [&[22; 1][..], &[22; 13], &[20; 64], &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        server.step(Duration::ZERO, Some(noise));
    }
    talk(&mut client, &mut server, 100 * MS, |_| false);
    assert!(client.keys.is_some() && server.keys.is_some());
}

/// Whoever can forge the browser's address has no key: what it says must end nothing.
#[test]
fn forged_records_end_no_association() {
    let record = |kind: u8, epoch: u8, body: &[u8]| {
        let header = [kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 99, 0, body.len() as u8];
        [&header[..], body].concat()
    };
    let forged = [
        record(21, 0, &[2, 40]),
        record(21, 0, &[1, 0]),
        record(21, 1, &[2, 40]),
        record(21, 1, &[7; 40]),
        record(23, 1, &[7; 60]),
        record(22, 1, &[7; 60]),
        record(20, 0, &[1]),
        record(22, 0, &[1, 0, 0, 8, 0, 9, 0, 0, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
        record(22, 0, &[20, 0, 0, 12, 0, 3, 0, 0, 0, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]),
        vec![0x2f; 40],
        vec![22; 200],
    ];
    for (index, datagram) in forged.iter().enumerate() {
        let (mut client, mut server) = sides();
        talk(&mut client, &mut server, 100 * MS, |_| false);
        for side in [&mut client, &mut server] {
            let keys = side.keys;
            for step in 5..15 {
                side.step(20 * step * MS, Some(datagram));
            }
            assert_eq!((side.failure, side.keys), (None, keys), "after, {index}");
        }
        // And before, while it is being shaken hands.
        let (mut client, mut server) = sides();
        client.step(Duration::ZERO, None);
        for datagram in std::mem::take(&mut client.outbox) {
            server.step(Duration::ZERO, Some(&datagram));
        }
        server.step(Duration::ZERO, Some(datagram));
        assert_eq!(server.failure, None, "amid, {index}");
    }
}

#[test]
fn keys_are_split_in_the_order_of_rfc_5764() {
    let material: Vec<u8> = (0..60).collect();
    let profile = SrtpProfile::AES128_CM_SHA1_80;
    let keys = split(&material, profile, true).unwrap();
    let of = |key: std::ops::Range<usize>, salt: std::ops::Range<usize>| {
        let octets = [&material[key], &material[salt]].concat();
        MasterKey::new(Suite::AesCm128HmacSha1Tag80, &octets).unwrap()
    };
    assert_eq!((keys.local, keys.remote), (of(0..16, 32..46), of(16..32, 46..60)));
    let keys = split(&material, profile, false).unwrap();
    assert_eq!((keys.remote, keys.local), (of(0..16, 32..46), of(16..32, 46..60)));
    assert_eq!(split(&material[1..], profile, true), None);
}
