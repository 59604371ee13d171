use super::*;

#[test]
fn ticks_of_payloads() {
    for (codec, len, ticks) in [
        (Codec::Pcma, 0, None),
        (Codec::Pcma, 80, Some(80)),
        (Codec::Pcmu, 480, Some(480)),
        (Codec::G722, 160, Some(160)),
        (Codec::G729, 0, None),
        (Codec::G729, 2, Some(80)),
        (Codec::G729, 20, Some(160)),
        (Codec::G729, 22, Some(240)),
        (Codec::G729, 11, None),
    ] {
        assert_eq!(codec.payload_ticks(&[0; 480][..len]), ticks, "{codec:?} {len}");
    }
}

#[test]
fn ticks_of_opus_packets() {
    let ticks = |packet: &[u8]| Codec::Opus.payload_ticks(packet);
    assert_eq!(ticks(&[]), None);
    // SILK narrowband 20 ms, one frame; the same twice; three of 60 ms are too long.
    assert_eq!(ticks(&[1 << 3]), Some(960));
    assert_eq!(ticks(&[1 << 3 | 1, 0, 0]), Some(1920));
    assert_eq!(ticks(&[3 << 3 | 3, 3]), None);
    // Code 3 with a count; without the count octet; with none.
    assert_eq!(ticks(&[31 << 3 | 3, 3, 0]), Some(2880));
    assert_eq!(ticks(&[31 << 3 | 3]), None);
    assert_eq!(ticks(&[31 << 3 | 3, 0]), None);
    // CELT 2.5 ms; hybrid 10 ms.
    assert_eq!(ticks(&[16 << 3]), Some(120));
    assert_eq!(ticks(&[12 << 3]), Some(480));
}

#[test]
fn pieces_are_at_most_20_ms() {
    let payload = [0; 480];
    let offsets = |codec: Codec, len: usize| {
        codec
            .pieces(&payload[..len])
            .map(|(offset, piece)| (offset, piece.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(Codec::Pcma, 240), [(0, 160), (160, 80)]);
    assert_eq!(offsets(Codec::G729, 32), [(0, 20), (160, 12)]);
    assert_eq!(offsets(Codec::Opus, 400), [(0, 400)]);
    assert_eq!(offsets(Codec::Opus, 0), []);
}

#[test]
fn names_are_found_in_any_case() {
    assert_eq!(Codec::of_name("OPUS"), Some(Codec::Opus));
    assert_eq!(Codec::of_name("pcma"), Some(Codec::Pcma));
    assert_eq!(Codec::of_name("iLBC"), None);
}

#[test]
fn encoded_frames_are_bounded() {
    let frame = Encoded::new(Codec::G729, &[7; 20]).unwrap();
    assert_eq!((frame.codec(), frame.payload()), (Codec::G729, &[7; 20][..]));
    assert_eq!(Encoded::new(Codec::Opus, &[0; MAX_FRAME_LEN + 1]), None);
}
