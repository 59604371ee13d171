use std::time::Duration;

use super::stun::tests::{USE_CANDIDATE, request};
use super::*;
use crate::secure::srtp::MasterKey;

const MS: Duration = Duration::from_millis(1);
const PASSWORD: &str = "our password";

/// An RTP packet of four octets of audio.
const VOICE: [u8; 16] = [0x80, 8, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 5, 5, 5, 5];
/// A receiver report without blocks.
const REPORT: [u8; 8] = [0x80, 201, 0, 1, 1, 2, 3, 4];

fn remote() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}

fn keys(local: u8, remote: u8) -> Keys {
    let suite = Suite::AesCm128HmacSha1Tag80;
    let key = |octet| MasterKey::new(suite, &[octet; 30]).unwrap();
    Keys { local: key(local), remote: key(remote) }
}

fn nobody() -> impl FnMut(&[u8], SocketAddr) {
    |_: &[u8], _| panic!("nothing is to be sent")
}

fn protected(media: &mut SecureMedia, packet: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; 256];
    buffer[..packet.len()].copy_from_slice(packet);
    media.protect(&mut buffer, packet.len()).map(|len| buffer[..len].to_vec())
}

fn receive(media: &mut SecureMedia, datagram: &[u8], now: Now) -> Result<Option<Vec<u8>>, Refusal> {
    match media.receive(&mut datagram.to_vec(), remote(), now, &mut nobody()) {
        Received::Media(plain) => Ok(Some(plain.to_vec())),
        Received::Handled => Ok(None),
        Received::Refused(refusal) => Err(refusal),
    }
}

fn identity() -> Identity {
    Identity::generate().unwrap()
}

#[test]
fn sdes_carries_rtp_and_rtcp_both_ways() {
    let identity = identity();
    let mut ours = SecureMedia::new(&Security::Sdes(keys(1, 2)), &identity, Now::ZERO);
    let mut theirs = SecureMedia::new(&Security::Sdes(keys(2, 1)), &identity, Now::ZERO);
    assert_eq!(ours.take_outcome(), Some(Outcome::Ready(Suite::AesCm128HmacSha1Tag80)));
    assert_eq!(ours.take_outcome(), None);
    assert!(!ours.is_routed());
    for packet in [VOICE.as_slice(), REPORT.as_slice()] {
        let sent = protected(&mut ours, packet).unwrap();
        assert_eq!(receive(&mut theirs, &sent, Now::ZERO), Ok(Some(packet.to_vec())));
        let sent = protected(&mut theirs, packet).unwrap();
        assert_eq!(receive(&mut ours, &sent, Now::ZERO), Ok(Some(packet.to_vec())));
        assert_eq!(receive(&mut ours, packet, Now::ZERO).ok(), None, "plain packets are refused");
    }
    // Neither ICE nor DTLS was negotiated.
    for first in [0, 22, 64, 200] {
        assert_eq!(receive(&mut ours, &[first; 40], Now::ZERO), Err(Refusal::Malformed));
    }
    assert_eq!(receive(&mut ours, &[], Now::ZERO), Err(Refusal::Malformed));
}

#[test]
fn keys_that_stay_are_not_begun_again() {
    let identity = identity();
    let mut ours = SecureMedia::new(&Security::Sdes(keys(1, 2)), &identity, Now::ZERO);
    let mut theirs = SecureMedia::new(&Security::Sdes(keys(2, 1)), &identity, Now::ZERO);
    let sent = protected(&mut theirs, &VOICE).unwrap();
    assert!(receive(&mut ours, &sent, Now::ZERO).is_ok());
    ours.take_outcome();
    ours.connect(&Security::Sdes(keys(1, 2)), &identity, Now::ZERO);
    assert_eq!(ours.take_outcome(), None);
    assert_eq!(receive(&mut ours, &sent, Now::ZERO), Err(Refusal::Replayed));
    ours.connect(&Security::Sdes(keys(1, 3)), &identity, Now::ZERO);
    assert_eq!(receive(&mut ours, &sent, Now::ZERO), Err(Refusal::Forged));
}

/// A browser as far as the port sees it: its own checks and handshake, over a network of vectors.
struct Page {
    association: Association,
    session: Option<(Protector, Unprotector)>,
    port: SecureMedia,
    ufrag: &'static str,
}

impl Page {
    fn new(ours: &Identity, theirs: &Identity, expected: Fingerprint) -> Self {
        let association = Association::new(theirs, ours.fingerprint(), true, Now::ZERO);
        let security = peer(expected, "page");
        let port = SecureMedia::new(&security, ours, Now::ZERO);
        Self { association, session: None, port, ufrag: "page" }
    }

    fn check(&mut self, now: Now) -> usize {
        let username = format!("port:{}", self.ufrag);
        let mut check = request(&username, PASSWORD, &[USE_CANDIDATE]);
        let mut answers = 0;
        let mut send = |_: &[u8], to| {
            assert_eq!(to, remote());
            answers += 1;
        };
        let received = self.port.receive(&mut check, remote(), now, &mut send);
        assert_eq!(received, Received::Handled);
        answers
    }

    fn shake_hands(&mut self, now: Now) {
        let mut to_port = Vec::new();
        let _idle = self.association.poll(now, &mut |octets| to_port.push(octets.to_vec()));
        while !to_port.is_empty() {
            let mut to_page = Vec::new();
            for datagram in to_port.drain(..) {
                let mut send = |octets: &[u8], _| to_page.push(octets.to_vec());
                assert!(self.port.is_handshake(&datagram, remote(), now));
                self.port.shake_hands(&datagram, remote(), now, &mut send);
            }
            for datagram in to_page {
                let mut send = |octets: &[u8]| to_port.push(octets.to_vec());
                if let Ok(Some(keys)) = self.association.receive(&datagram, now, &mut send) {
                    let unprotector = Unprotector::new(&keys.remote);
                    self.session = Some((Protector::new(&keys.local), unprotector));
                }
            }
        }
    }

    fn speak(&mut self) -> Vec<u8> {
        let mut buffer = [0; 64];
        buffer[..VOICE.len()].copy_from_slice(&VOICE);
        let len = self.session.as_mut().unwrap().0.protect_rtp(&mut buffer, VOICE.len()).unwrap();
        buffer[..len].to_vec()
    }
}

fn peer(fingerprint: Fingerprint, ufrag: &str) -> Security {
    let credentials = Credentials::new("port", PASSWORD, ufrag);
    Security::Dtls(DtlsPeer { fingerprint, active: false, credentials })
}

#[test]
fn a_browser_is_served_after_check_and_handshake() {
    let (ours, theirs) = (identity(), identity());
    let mut page = Page::new(&ours, &theirs, theirs.fingerprint());
    assert!(page.port.is_routed());
    assert_eq!(page.port.destination(Now::ZERO), None);
    assert_eq!(protected(&mut page.port, &VOICE), None, "nothing leaves in clear");
    assert_eq!(receive(&mut page.port, &VOICE, Now::ZERO), Err(Refusal::Stranger));
    assert_eq!(receive(&mut page.port, &[22; 40], Now::ZERO), Err(Refusal::Stranger));
    assert_eq!(page.check(Now::ZERO), 1);
    assert_eq!(page.port.destination(Now::ZERO), Some(remote()));
    assert_eq!(receive(&mut page.port, &VOICE, Now::ZERO), Err(Refusal::Early));
    page.shake_hands(Now::ZERO);
    assert!(matches!(page.port.take_outcome(), Some(Outcome::Ready(_))));
    let sent = page.speak();
    assert_eq!(receive(&mut page.port, &sent, Now::ZERO), Ok(Some(VOICE.to_vec())));
    let mut heard = protected(&mut page.port, &VOICE).unwrap();
    assert_eq!(page.session.unwrap().1.unprotect_rtp(&mut heard), Ok(VOICE.len()));
    assert_eq!(heard[..VOICE.len()], VOICE);
}

#[test]
fn a_browser_with_another_certificate_is_not_served() {
    let (ours, theirs) = (identity(), identity());
    let mut page = Page::new(&ours, &theirs, ours.fingerprint());
    page.check(Now::ZERO);
    page.shake_hands(Now::ZERO);
    assert_eq!(page.port.take_outcome(), Some(Outcome::Failed(Failure::Fingerprint)));
    assert_eq!(protected(&mut page.port, &VOICE), None);
}

#[test]
fn a_new_exchange_of_sdp_keeps_the_association_and_a_restart_the_media() {
    let (ours, theirs) = (identity(), identity());
    let mut page = Page::new(&ours, &theirs, theirs.fingerprint());
    page.check(Now::ZERO);
    page.shake_hands(Now::ZERO);
    page.port.take_outcome();
    page.port.connect(&peer(theirs.fingerprint(), "later"), &ours, 20 * MS);
    page.ufrag = "later";
    assert_eq!(page.port.take_outcome(), None);
    let sent = page.speak();
    assert_eq!(receive(&mut page.port, &sent, 20 * MS), Ok(Some(VOICE.to_vec())));
    assert_eq!(page.check(20 * MS), 1);
    // Another certificate is another association: the old keys serve no more.
    page.port.connect(&peer(ours.fingerprint(), "later"), &ours, 40 * MS);
    assert_eq!(protected(&mut page.port, &VOICE), None);
    page.port.connect(&Security::Sdes(keys(1, 2)), &ours, 60 * MS);
    assert!(protected(&mut page.port, &VOICE).is_some() && !page.port.is_routed());
}

#[test]
fn without_consent_nothing_is_sent_and_nothing_heard() {
    let (ours, theirs) = (identity(), identity());
    let mut page = Page::new(&ours, &theirs, theirs.fingerprint());
    page.check(Now::ZERO);
    page.shake_hands(Now::ZERO);
    let later = ice::CONSENT_FOR;
    assert_eq!(page.port.destination(later), None);
    let sent = page.speak();
    assert_eq!(receive(&mut page.port, &sent, later), Err(Refusal::Stranger));
    page.check(later);
    assert_eq!(receive(&mut page.port, &sent, later), Ok(Some(VOICE.to_vec())));
}

#[test]
fn a_browser_that_is_never_heard_fails_once() {
    let (ours, theirs) = (identity(), identity());
    let mut port = Page::new(&ours, &theirs, theirs.fingerprint()).port;
    port.poll(ESTABLISHED_WITHIN - MS, &mut nobody());
    assert_eq!(port.take_outcome(), None);
    port.poll(ESTABLISHED_WITHIN, &mut nobody());
    assert_eq!(port.take_outcome(), Some(Outcome::Failed(Failure::TimedOut)));
    port.poll(2 * ESTABLISHED_WITHIN, &mut nobody());
    assert_eq!(port.take_outcome(), None);
}

#[test]
fn an_active_port_begins_once_it_is_checked() {
    let (ours, theirs) = (identity(), identity());
    let credentials = Credentials::new("port", PASSWORD, "page");
    let peer = DtlsPeer { fingerprint: theirs.fingerprint(), active: true, credentials };
    let mut port = SecureMedia::new(&Security::Dtls(peer), &ours, Now::ZERO);
    port.poll(Now::ZERO, &mut nobody());
    let mut check = request("port:page", PASSWORD, &[USE_CANDIDATE]);
    port.receive(&mut check, remote(), 20 * MS, &mut |_, _| {});
    let mut sent = Vec::new();
    port.poll(20 * MS, &mut |octets, to| sent.push((octets[0], to)));
    assert_eq!(sent, [(22, remote())]);
}
