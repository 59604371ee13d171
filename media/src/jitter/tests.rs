use proptest::prelude::*;

use super::*;

/// Every octet of packet `index` names it, so that a read shows where its audio came from.
fn payload(index: u32, length: usize) -> Vec<u8> {
    vec![(index % 100) as u8 + 1; length]
}

fn write(buffer: &mut JitterBuffer, index: u32) {
    buffer.write(RtpTimestamp(index.wrapping_mul(160)), &payload(index, 160));
}

/// First octet of the next frame, or None when there is no audio.
fn read(buffer: &mut JitterBuffer) -> Option<u8> {
    let mut frame = [0; FRAME_SAMPLES];
    match buffer.read(Law::A, &mut frame) {
        Read::Audio => Some(frame[0]),
        Read::Concealed | Read::Nothing => None,
    }
}

#[test]
fn playing_starts_with_two_packets() {
    let mut buffer = JitterBuffer::default();
    assert_eq!(read(&mut buffer), None);
    write(&mut buffer, 0);
    assert_eq!(read(&mut buffer), None);
    write(&mut buffer, 1);
    assert_eq!(read(&mut buffer), Some(1));
    write(&mut buffer, 2);
    assert_eq!(read(&mut buffer), Some(2));
}

#[test]
fn reordering_and_duplicates_do_not_show() {
    let mut buffer = JitterBuffer::default();
    write(&mut buffer, 0);
    write(&mut buffer, 2);
    write(&mut buffer, 1);
    write(&mut buffer, 1);
    for expected in 1..=3 {
        assert_eq!(read(&mut buffer), Some(expected));
    }
}

#[test]
fn a_lost_packet_fades_and_the_next_one_plays() {
    let mut buffer = JitterBuffer::default();
    let loud = [Law::A.encode(16_000); FRAME_SAMPLES];
    for index in [0, 1, 3, 4] {
        buffer.write(RtpTimestamp(index * 160), &loud);
    }
    let mut frame = [0; FRAME_SAMPLES];
    assert_eq!(buffer.read(Law::A, &mut frame), Read::Audio);
    assert_eq!(buffer.read(Law::A, &mut frame), Read::Audio);
    assert_eq!(buffer.read(Law::A, &mut frame), Read::Concealed);
    let faded = Law::A.decode(frame[0]);
    assert!((7_000..9_000).contains(&faded), "{faded}");
    assert_eq!(buffer.read(Law::A, &mut frame), Read::Audio);
    assert_eq!(frame, loud);
}

#[test]
fn packets_of_10_to_60_ms_play_without_gaps() {
    for length in [80u32, 160, 240, 320, 400, 480] {
        let mut buffer = JitterBuffer::default();
        let (mut written, mut gaps, mut played) = (0, 0, 0);
        for tick in 0..500u32 {
            while written * length <= tick * 160 {
                let at = RtpTimestamp(written.wrapping_mul(length));
                buffer.write(at, &payload(written, length as usize));
                written += 1;
            }
            match read(&mut buffer) {
                Some(_) => played += 1,
                None if played > 0 => gaps += 1,
                None => {}
            }
        }
        assert_eq!(gaps, 0, "packets of {length} octets");
        assert!(played > 490);
    }
}

#[test]
fn a_pause_of_the_sender_does_not_raise_the_delay() {
    let mut buffer = JitterBuffer::default();
    let mut index = 0;
    for _ in 0..20 {
        for _ in 0..50 {
            write(&mut buffer, index);
            read(&mut buffer);
            index += 1;
        }
        for _ in 0..50 {
            read(&mut buffer);
            index += 1; // its clock runs on while nothing is sent
        }
    }
    assert_eq!(buffer.target_ticks, MIN_TARGET_TICKS);
}

#[test]
fn late_packets_raise_the_delay_up_to_its_bound_and_calm_lowers_it() {
    let mut buffer = JitterBuffer::default();
    let mut index = 0;
    for delay in 3..10 {
        for _ in 0..delay {
            read(&mut buffer);
        }
        for _ in 0..delay {
            write(&mut buffer, index);
            index += 1;
        }
        for _ in 0..50 {
            write(&mut buffer, index);
            index += 1;
            read(&mut buffer);
        }
    }
    assert_eq!(buffer.target_ticks, MAX_TARGET_TICKS);
    for _ in 0..20 * WINDOW_READS {
        write(&mut buffer, index);
        index += 1;
        read(&mut buffer);
    }
    assert_eq!(buffer.target_ticks, MIN_TARGET_TICKS);
    assert!(buffer.level() <= 2 * MIN_TARGET_TICKS.cast_signed());
}

#[test]
fn a_fast_and_a_slow_sender_stay_within_the_bounds() {
    for (writes, per_reads) in [(1001, 1000), (999, 1000)] {
        let mut buffer = JitterBuffer::default();
        let (mut index, mut gaps) = (0u32, 0);
        for tick in 0..100_000u32 {
            while index * per_reads <= tick * writes {
                write(&mut buffer, index);
                index += 1;
            }
            gaps += u32::from(read(&mut buffer).is_none());
            assert!(buffer.level() <= MAX_LEVEL_TICKS);
        }
        // A thousandth of 100,000 frames is missing or too many.
        assert!(gaps < 500, "{gaps} gaps at {writes} per {per_reads}");
    }
}

#[test]
fn a_burst_is_cut_back_to_the_newest_audio() {
    let mut buffer = JitterBuffer::default();
    for index in 0..40 {
        write(&mut buffer, index);
    }
    assert!(buffer.level() <= MAX_LEVEL_TICKS);
    assert!(read(&mut buffer).unwrap() > 29);
}

#[test]
fn another_time_line_starts_afresh() {
    let mut buffer = JitterBuffer::default();
    for start in [0u32, 1 << 31, 77, 3_000_000_000] {
        for index in 0..2 {
            let at = RtpTimestamp(start.wrapping_add(index * 160));
            buffer.write(at, &payload(index, 160));
        }
        assert_eq!(read(&mut buffer), Some(1));
    }
}

proptest! {
    /// Whatever is lost, late, doubled or out of order, frames come out in order.
    #[test]
    fn loss_and_reordering_keep_the_order(
        fate in proptest::collection::vec((0u8..10, 0usize..4), 50..400),
    ) {
        let mut buffer = JitterBuffer::default();
        let mut arrivals: Vec<(usize, u32)> = Vec::new();
        for (index, (luck, delay)) in fate.iter().enumerate() {
            if *luck > 0 {
                arrivals.push((index + delay, index as u32));
            }
            if *luck == 9 {
                arrivals.push((index + delay + 1, index as u32));
            }
        }
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        let mut newest = None;
        let mut frame = [0; FRAME_SAMPLES];
        for tick in 0..fate.len() {
            while let Some((_, index)) = arrivals.next_if(|(at, _)| *at <= tick) {
                let octets: Vec<u8> = index.to_be_bytes().repeat(40);
                buffer.write(RtpTimestamp(index.wrapping_mul(160)), &octets);
            }
            if buffer.read(Law::A, &mut frame) == Read::Audio {
                let index = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
                prop_assert!(newest.is_none_or(|before| before < index));
                newest = Some(index);
            }
            prop_assert!(buffer.level() <= MAX_LEVEL_TICKS);
        }
    }

    #[test]
    fn any_packets_never_panic(
        packets in proptest::collection::vec((any::<u32>(), 0usize..1500), 0..100),
    ) {
        let mut buffer = JitterBuffer::default();
        let mut frame = [0; FRAME_SAMPLES];
        for (timestamp, length) in packets {
            buffer.write(RtpTimestamp(timestamp), &vec![1; length]);
            buffer.read(Law::Mu, &mut frame);
        }
    }
}
