//! Secure media under fire: SRTP of every suite, checks of ICE, and handshakes of DTLS.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use _media::secure::dtls::{Association, Identity, Keys};
use _media::secure::ice::Credentials;
use _media::secure::srtp::{MAX_OVERHEAD, MasterKey, Suite};
use _media::secure::{DtlsPeer, Received, SecureMedia, Security};

use crate::spoilt::{Random, spoil, with_fingerprint};

const SUITES: [Suite; 4] = [
    Suite::AesCm128HmacSha1Tag80,
    Suite::AesCm128HmacSha1Tag32,
    Suite::AeadAes128Gcm,
    Suite::AeadAes256Gcm,
];

/// Datagrams after which a handshake begins anew, whatever has become of the one before.
const PER_HANDSHAKE: u64 = 200;

const PASSWORD: &[u8] = b"our password";

/// Both ends of what is protected, and what is on its way between them.
pub struct Secure {
    ours: Identity,
    theirs: Identity,
    lines: Vec<Line>,
    port: SecureMedia,
    page: Association,
    to_port: VecDeque<Vec<u8>>,
    to_page: VecDeque<Vec<u8>>,
}

/// One end that sends by SDES and one that receives.
struct Line {
    sender: SecureMedia,
    receiver: SecureMedia,
    sequence: u16,
}

impl Secure {
    pub fn new() -> io::Result<Self> {
        let (ours, theirs) = (Identity::generate()?, Identity::generate()?);
        let (port, page) = browser(&ours, &theirs, Duration::ZERO);
        let (to_port, to_page) = (VecDeque::new(), VecDeque::new());
        Ok(Self { ours, theirs, lines: Vec::new(), port, page, to_port, to_page })
    }

    /// Begins all of it anew.
    pub fn begin(&mut self, number: u64) {
        let now = at(number);
        let line = |suite: Suite| {
            let key = |octet| {
                let octets = vec![octet; suite.key_len() + suite.salt_len()];
                MasterKey::new(suite, &octets).expect("a key of its length")
            };
            let media = |local, remote| {
                let keys = Keys { local: key(local), remote: key(remote) };
                SecureMedia::new(&Security::Sdes(keys), &self.ours, now)
            };
            Line { sender: media(1, 2), receiver: media(2, 1), sequence: number as u16 }
        };
        self.lines = SUITES.map(line).into();
    }

    /// Gives something to each part.
    pub fn offer(&mut self, corpus: &[Vec<u8>], random: &mut Random, number: u64) {
        let now = at(number);
        if number.is_multiple_of(PER_HANDSHAKE) {
            (self.port, self.page) = browser(&self.ours, &self.theirs, now);
            self.to_port.clear();
            self.to_page.clear();
        }
        let line = random.below(self.lines.len());
        self.lines[line].offer(corpus, random, now);
        self.check(corpus, random, now);
        self.shake_hands(corpus, random, now);
    }

    /// A check by somebody who knows the password, most often, and one by a stranger.
    fn check(&mut self, corpus: &[Vec<u8>], random: &mut Random, now: Duration) {
        let mut check = signed(PASSWORD, random);
        spoil(&mut check, corpus, random);
        let mut check = with_fingerprint(&check);
        let from = address(random.below(6) as u8);
        let _ = self.port.receive(&mut check, from, now, &mut |_, to| assert_eq!(to, from));
        let stranger = address(99);
        let mut forged = signed(b"their guess", random);
        spoil(&mut forged, corpus, random);
        let mut forged = with_fingerprint(&forged);
        let _ = self.port.receive(&mut forged, stranger, now, &mut |octets, to| {
            assert!(to == stranger && octets.len() <= 64, "little is answered to strangers");
        });
        assert_ne!(self.port.destination(now), Some(stranger));
    }

    /// One datagram of the handshake each way, now and then a spoilt one.
    fn shake_hands(&mut self, corpus: &[Vec<u8>], random: &mut Random, now: Duration) {
        let Self { port, page, to_port, to_page, .. } = self;
        let _ = page.poll(now, &mut |octets| to_port.push_back(octets.to_vec()));
        port.poll(now, &mut |octets, _| to_page.push_back(octets.to_vec()));
        if let Some(mut datagram) = to_port.pop_front() {
            if random.below(4) == 0 {
                spoil(&mut datagram, corpus, random);
            }
            let mut send = |octets: &[u8], _| to_page.push_back(octets.to_vec());
            port.shake_hands(&datagram, address(0), now, &mut send);
        }
        if let Some(mut datagram) = to_page.pop_front() {
            if random.below(4) == 0 {
                spoil(&mut datagram, corpus, random);
            }
            let mut send = |octets: &[u8]| to_port.push_back(octets.to_vec());
            let _ = page.receive(&datagram, now, &mut send);
        }
        // Each answers the other: what is in flight must not become more and more.
        assert!(to_port.len() < 1000 && to_page.len() < 1000, "an answer for every answer");
        let _ = port.take_outcome();
    }
}

impl Line {
    fn offer(&mut self, corpus: &[Vec<u8>], random: &mut Random, now: Duration) {
        let mut plain = corpus[random.below(corpus.len())].clone();
        if plain.len() >= 12 && plain[0] >> 6 == 2 && !(192..=223).contains(&plain[1]) {
            self.sequence = self.sequence.wrapping_add(1);
            plain[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        }
        let mut buffer = plain.clone();
        buffer.resize(plain.len() + MAX_OVERHEAD, 0);
        let Some(len) = self.sender.protect(&mut buffer, plain.len()) else { return };
        buffer.truncate(len);
        let mut spoilt = buffer.clone();
        spoil(&mut spoilt, corpus, random);
        let is_whole = spoilt == buffer;
        let received = self.receiver.receive(&mut spoilt, address(0), now, &mut |_, _| {});
        match received {
            Received::Media(media) => assert!(is_whole && media == plain, "a forgery has passed"),
            other => assert!(!is_whole, "{other:?} of {plain:02x?}"),
        }
    }
}

/// A port that a browser is about to reach, and the browser's end of the handshake.
fn browser(ours: &Identity, theirs: &Identity, now: Duration) -> (SecureMedia, Association) {
    let peer = DtlsPeer {
        fingerprint: theirs.fingerprint(),
        active: false,
        credentials: Credentials::new("us", "our password", "them"),
    };
    let port = SecureMedia::new(&Security::Dtls(peer), ours, now);
    (port, Association::new(theirs, ours.fingerprint(), true, now))
}

/// A check of ICE up to its MESSAGE-INTEGRITY, with attributes at random.
fn signed(password: &[u8], random: &mut Random) -> Vec<u8> {
    let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    check.extend([9; 12]);
    check.extend([0, 6, 0, 7]);
    check.extend(b"us:them\0");
    for kind in [0x0024, 0x0025, 0x8029, 0x802a, 0x0077] {
        if random.below(8) > if kind == 0x0025 { 2 } else { 5 } {
            check.extend(u16::to_be_bytes(kind));
            check.extend([0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
    }
    let len = (check.len() - 20 + 24) as u16;
    check[2..4].copy_from_slice(&len.to_be_bytes());
    let mut mac = Hmac::<Sha1>::new_from_slice(password).expect("keys of every length");
    mac.update(&check);
    check.extend([0, 8, 0, 20]);
    check.extend(mac.finalize().into_bytes());
    check
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 4000))
}

fn at(number: u64) -> Duration {
    Duration::from_millis(number * 5)
}
