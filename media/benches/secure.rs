//! What it costs to protect a packet and to shake hands.

use std::hint::black_box;
use std::time::Duration;

use _media::secure::dtls::{Association, Identity};
use _media::secure::srtp::{MAX_OVERHEAD, MasterKey, Protector, Suite, Unprotector};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const PACKET_LEN: usize = 172;

const SUITES: [(&str, Suite); 4] = [
    ("aes_cm_128_hmac_sha1_80", Suite::AesCm128HmacSha1Tag80),
    ("aes_cm_128_hmac_sha1_32", Suite::AesCm128HmacSha1Tag32),
    ("aead_aes_128_gcm", Suite::AeadAes128Gcm),
    ("aead_aes_256_gcm", Suite::AeadAes256Gcm),
];

/// 20 ms of G.711.
fn packet(sequence: u16) -> [u8; PACKET_LEN + MAX_OVERHEAD] {
    let mut packet = [0xd5; PACKET_LEN + MAX_OVERHEAD];
    packet[..12].copy_from_slice(&[0x80, 8, 0, 0, 0, 0, 0, 160, 1, 2, 3, 4]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}

fn master_key(suite: Suite) -> MasterKey {
    let octets = vec![7; suite.key_len() + suite.salt_len()];
    MasterKey::new(suite, &octets).expect("the key has the length of its suite")
}

fn srtp(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        let key = master_key(suite);
        let mut protector = Protector::new(&key);
        let mut unprotector = Unprotector::new(&key);
        let mut sequence = 0u16;
        criterion.bench_function(&format!("srtp_protect_{name}"), |bencher| {
            bencher.iter(|| {
                sequence = sequence.wrapping_add(1);
                let mut packet = packet(sequence);
                black_box(protector.protect_rtp(&mut packet, PACKET_LEN))
            });
        });
        let mut sender = Protector::new(&key);
        let mut sequence = 0u16;
        let mut protected = || {
            sequence = sequence.wrapping_add(1);
            let mut packet = packet(sequence);
            let len = sender.protect_rtp(&mut packet, PACKET_LEN).expect("a packet with room");
            (packet, len)
        };
        criterion.bench_function(&format!("srtp_unprotect_{name}"), |bencher| {
            let open = |(mut packet, len): ([u8; PACKET_LEN + MAX_OVERHEAD], usize)| {
                unprotector.unprotect_rtp(&mut packet[..len])
            };
            bencher.iter_batched(&mut protected, open, BatchSize::SmallInput);
        });
    }
}

/// Both sides of a handshake, and the passive one alone.
fn dtls(criterion: &mut Criterion) {
    let (one, other) = match (Identity::generate(), Identity::generate()) {
        (Ok(one), Ok(other)) => (one, other),
        _ => panic!("the system has no randomness"),
    };
    let shake = |spent: &mut Duration| {
        let now = Duration::ZERO;
        let mut active = Association::new(&one, other.fingerprint(), true, now);
        let mut passive = Association::new(&other, one.fingerprint(), false, now);
        let mut to_passive = Vec::new();
        let mut done = false;
        let _idle = active.poll(now, &mut |octets| to_passive.push(octets.to_vec()));
        while !to_passive.is_empty() {
            let mut to_active = Vec::new();
            let start = std::time::Instant::now();
            for datagram in to_passive.drain(..) {
                let mut send = |octets: &[u8]| to_active.push(octets.to_vec());
                done |= matches!(passive.receive(&datagram, now, &mut send), Ok(Some(_)));
            }
            *spent += start.elapsed();
            for datagram in to_active {
                let mut send = |octets: &[u8]| to_passive.push(octets.to_vec());
                let _progress = active.receive(&datagram, now, &mut send);
            }
        }
        assert!(done, "no keys");
    };
    criterion.bench_function("dtls_handshake_passive_side", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            (0..count).for_each(|_| shake(&mut spent));
            spent
        });
    });
}

criterion_group!(secure, srtp, dtls);
criterion_main!(secure);
