use super::*;
use crate::codec::level;
use crate::test_tone::{TONE_DBOV, encoded_tone as frames, tone_and_rest};

#[test]
fn a_tone_survives_every_codec() {
    for codec in Codec::ALL {
        let mut decoder = Decoder::new(codec);
        let mut heard = Vec::new();
        let mut pcm = [0; PCM_SAMPLES];
        for frame in frames(codec, 60) {
            assert_eq!(codec.payload_ticks(&frame), Some(codec.frame_ticks()), "{codec:?}");
            assert_eq!(decoder.decode(&frame, &mut pcm), Heard::Audio);
            heard.extend_from_slice(&pcm);
        }
        let (tone, rest) = tone_and_rest(&heard[8 * PCM_SAMPLES..]);
        assert!((tone - TONE_DBOV).abs() < 1.5, "{codec:?}: tone at {tone} dBov");
        assert!(rest < tone - 12.0, "{codec:?}: rest at {rest} dBov");
    }
}

#[test]
fn packets_of_any_length_give_the_same_audio() {
    for codec in [Codec::Pcma, Codec::Pcmu, Codec::G722] {
        let stream = frames(codec, 12).concat();
        let mut whole = Vec::new();
        let mut decoder = Decoder::new(codec);
        for frame in stream.chunks(160) {
            let mut pcm = [0; PCM_SAMPLES];
            decoder.decode(frame, &mut pcm);
            whole.extend_from_slice(&pcm);
        }
        for packet in [80, 240, 320, 480, 960] {
            let mut decoder = Decoder::new(codec);
            let mut packets = stream.chunks(packet);
            let mut heard = Vec::new();
            let mut queued = 0;
            while heard.len() < whole.len() {
                while queued < PCM_SAMPLES {
                    let packet = packets.next().unwrap();
                    decoder.push(packet);
                    queued += packet.len();
                }
                let mut pcm = [0; PCM_SAMPLES];
                assert_eq!(decoder.pull(&mut pcm), Heard::Audio);
                queued -= PCM_SAMPLES;
                heard.extend_from_slice(&pcm);
            }
            assert!(heard == whole, "{codec:?} in packets of {packet}");
        }
    }
}

#[test]
fn a_loss_is_covered_and_a_stream_that_ends_falls_silent() {
    for codec in Codec::ALL {
        let mut decoder = Decoder::new(codec);
        let mut pcm = [0; PCM_SAMPLES];
        assert_eq!(decoder.conceal(&mut pcm), Heard::Nothing);
        for frame in frames(codec, 20) {
            decoder.decode(&frame, &mut pcm);
        }
        assert_eq!(decoder.conceal(&mut pcm), Heard::Concealed);
        assert!(level::dbov(&pcm) > -25.0, "{codec:?}: {}", level::dbov(&pcm));
        for _ in 0..10 {
            decoder.conceal(&mut pcm);
        }
        assert_eq!((decoder.conceal(&mut pcm), pcm), (Heard::Nothing, [0; PCM_SAMPLES]));
        assert_eq!(decoder.decode(&frames(codec, 1)[0], &mut pcm), Heard::Audio);
    }
}

#[test]
fn comfort_noise_lasts_until_audio_returns() {
    let mut decoder = Decoder::new(Codec::Pcma);
    let mut pcm = [0; PCM_SAMPLES];
    let frames = frames(Codec::Pcma, 2);
    decoder.decode(&frames[0], &mut pcm);
    decoder.comfort_noise(&[60]);
    for _ in 0..500 {
        assert_eq!(decoder.pull(&mut pcm), Heard::Noise);
        assert!((level::dbov(&pcm) + 60.0).abs() < 3.0);
    }
    assert!(decoder.is_silent());
    assert_eq!(decoder.decode(&frames[1], &mut pcm), Heard::Audio);
    assert!(!decoder.is_silent());
    assert_eq!(decoder.conceal(&mut pcm), Heard::Concealed);
}

#[test]
fn opus_that_stops_sending_in_silence_is_not_lost() {
    let mut decoder = Decoder::new(Codec::Opus);
    let mut pcm = [0; PCM_SAMPLES];
    let frames = frames(Codec::Opus, 10);
    for frame in &frames {
        decoder.decode(frame, &mut pcm);
    }
    decoder.push(&frames[9][..1]);
    for _ in 0..50 {
        assert_eq!(decoder.pull(&mut pcm), Heard::Noise);
    }
    assert!(decoder.is_silent());
}

#[test]
fn hostile_payloads_neither_panic_nor_overflow() {
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for codec in Codec::ALL {
        let mut decoder = Decoder::new(codec);
        let mut pcm = [0; PCM_SAMPLES];
        for round in 0..400_usize {
            let payload: Vec<u8> = (0..round * 7 % 1500).map(|_| random()).collect();
            decoder.push(&payload);
            if round % 3 == 0 {
                decoder.pull(&mut pcm);
            }
        }
    }
}

#[test]
fn what_was_skipped_covers_a_loss_of_g711() {
    let frames = frames(Codec::Pcma, 21);
    let (mut decoding, mut skipping) = (Decoder::new(Codec::Pcma), Decoder::new(Codec::Pcma));
    let (mut expected, mut heard) = ([0; PCM_SAMPLES], [0; PCM_SAMPLES]);
    for frame in &frames[..20] {
        decoding.decode(frame, &mut expected);
        skipping.skip(frame);
    }
    decoding.conceal(&mut expected);
    assert_eq!((skipping.conceal(&mut heard), heard), (Heard::Concealed, expected));
}

#[test]
fn who_begins_to_decode_after_a_skip_soon_hears_what_is_sent() {
    for codec in Codec::ALL {
        let mut decoder = Decoder::new(codec);
        let mut pcm = [0; PCM_SAMPLES];
        let mut heard = Vec::new();
        for (index, frame) in frames(codec, 60).iter().enumerate() {
            if (10..30).contains(&index) {
                decoder.skip(frame);
            } else {
                decoder.decode(frame, &mut pcm);
                heard.extend_from_slice(&pcm);
            }
        }
        let (tone, _) = tone_and_rest(&heard[20 * PCM_SAMPLES..]);
        assert!((tone - TONE_DBOV).abs() < 1.5, "{codec:?}: tone at {tone} dBov");
    }
}
