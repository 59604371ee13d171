use super::*;

/// Samples at 16 kHz: tones, silence, noise, steps and a glide, 0.5 s.
const WIDE: &[u8] = include_bytes!("vectors/wide.pcm");

/// What another implementation (libspandsp 0.0.6, `g722_encode` at 64 kbit/s) makes of them.
const ENCODED: &[u8] = include_bytes!("vectors/wide.g722");

/// And what it decodes from that.
const DECODED: &[u8] = include_bytes!("vectors/decoded.pcm");

fn samples(octets: &[u8]) -> Vec<i16> {
    octets.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
}

#[test]
fn encodes_as_another_implementation_does() {
    let mut encoder = Encoder::default();
    let wide = samples(WIDE);
    let encoded: Vec<u8> =
        wide.as_chunks().0.iter().map(|pair| encoder.encode_pair(*pair)).collect();
    assert!(encoded == ENCODED);
}

#[test]
fn decodes_as_another_implementation_does() {
    let mut decoder = Decoder::default();
    let decoded: Vec<i16> = ENCODED.iter().flat_map(|octet| decoder.decode_octet(*octet)).collect();
    assert!(decoded == samples(DECODED));
}

#[test]
fn any_octets_decode() {
    let mut decoder = Decoder::default();
    let mut out = [0; 160];
    for octet in 0..=255 {
        decoder.decode(&[octet; 160], &mut out);
    }
}
