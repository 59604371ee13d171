use proptest::prelude::*;

use super::*;
use crate::rtp::{Pt, SequenceNumber};

const MS: Duration = Duration::from_millis(1);

fn packet(payload: &[u8], timestamp: u32) -> Packet<'_> {
    Packet {
        marker: false,
        pt: Pt(101),
        sequence: SequenceNumber(0),
        timestamp: RtpTimestamp(timestamp),
        ssrc: Ssrc(1),
        payload,
    }
}

fn presses(receiver: &mut Receiver, payload: [u8; 4], timestamp: u32, now: Now) -> Vec<Press> {
    let ended = receiver.receive(&packet(&payload, timestamp), now).unwrap();
    ended.into_iter().flatten().collect()
}

#[test]
fn a_press_is_reported_once_at_its_end() {
    let mut receiver = Receiver::default();
    for step in 1..=5u16 {
        let [high, low] = (step * 160).to_be_bytes();
        assert_eq!(presses(&mut receiver, [5, 10, high, low], 1000, MS), []);
    }
    let press = Press { key: '5', duration_ms: 100 };
    assert_eq!(presses(&mut receiver, [5, 0x8a, 3, 0x20], 1000, MS), [press]);
    assert_eq!(presses(&mut receiver, [5, 0x8a, 3, 0x20], 1000, MS), []);
    assert_eq!(presses(&mut receiver, [5, 10, 3, 0x20], 1000, MS), []);
    assert_eq!(receiver.poll(999 * MS), None);
}

#[test]
fn the_same_key_twice_is_two_presses() {
    let mut receiver = Receiver::default();
    let press = Press { key: '#', duration_ms: 40 };
    assert_eq!(presses(&mut receiver, [11, 0x8a, 1, 0x40], 1000, MS), [press]);
    assert_eq!(presses(&mut receiver, [11, 0x8a, 1, 0x40], 3000, MS), [press]);
}

#[test]
fn a_lost_end_is_reported_by_time_or_by_the_next_press() {
    let mut receiver = Receiver::default();
    assert_eq!(presses(&mut receiver, [1, 10, 1, 0x40], 1000, MS), []);
    assert_eq!(receiver.poll(50 * MS), None);
    assert_eq!(receiver.poll(200 * MS), Some(Press { key: '1', duration_ms: 40 }));
    assert_eq!(receiver.poll(300 * MS), None);
    // The end that comes later still is not a second press.
    assert_eq!(presses(&mut receiver, [1, 0x8a, 1, 0xe0], 1000, 400 * MS), []);
    assert_eq!(presses(&mut receiver, [2, 10, 0, 160], 5000, 500 * MS), []);
    let ended = presses(&mut receiver, [3, 10, 0, 160], 7000, 510 * MS);
    assert_eq!(ended, [Press { key: '2', duration_ms: 20 }]);
    // Stragglers of an older press are not news.
    assert_eq!(presses(&mut receiver, [2, 0x8a, 0, 160], 5000, 520 * MS), []);
}

#[test]
fn a_press_longer_than_a_segment_is_one_press() {
    let mut receiver = Receiver::default();
    assert_eq!(presses(&mut receiver, [9, 10, 0xff, 0xff], 1000, MS), []);
    assert_eq!(presses(&mut receiver, [9, 10, 0, 160], 1000 + 0xffff, MS), []);
    let ended = presses(&mut receiver, [9, 0x8a, 1, 0x40], 1000 + 0xffff, MS);
    assert_eq!(ended, [Press { key: '9', duration_ms: (0xffff + 320) / 8 }]);
}

#[test]
fn a_segment_whose_predecessor_was_lost_is_the_same_press() {
    let mut receiver = Receiver::default();
    receiver.set_clock_rate(48_000);
    assert_eq!(presses(&mut receiver, [9, 10, 3, 0xc0], 1000, MS), []);
    assert_eq!(presses(&mut receiver, [9, 10, 3, 0xc0], 1000 + 2 * 0xffff, MS), []);
    let ended = presses(&mut receiver, [9, 0x8a, 0, 48], 1000 + 3 * 0xffff, MS);
    assert_eq!(ended, [Press { key: '9', duration_ms: (3 * 0xffff + 48) / 48 }]);
}

/// Steps until all is sent; what is heard of it, with clocks of 8 and 48 kHz.
fn over_the_wire(sender: &mut Sender, frame_ticks: u32) -> Vec<Press> {
    let mut receiver = Receiver::default();
    receiver.set_clock_rate(frame_ticks * 50);
    let (mut heard, mut clock, mut now) = (Vec::new(), RtpTimestamp(u32::MAX - 9), Duration::ZERO);
    while !sender.is_idle() {
        if let Sending::Packet { timestamp, payload, .. } = sender.step(clock, frame_ticks) {
            heard.extend(presses(&mut receiver, payload, timestamp.0, now));
        }
        heard.extend(receiver.poll(now));
        clock = clock.after(frame_ticks);
        now += 20 * MS;
    }
    heard
}

#[test]
fn long_presses_go_over_any_clock() {
    for frame_ticks in [160, 960] {
        for tone_ms in [40, 100, 1360, 1380, 2740, 8200, 20_000] {
            let mut sender = Sender::default();
            sender.push("7#", tone_ms, 60);
            let expected = ['7', '#'].map(|key| Press { key, duration_ms: tone_ms });
            assert_eq!(over_the_wire(&mut sender, frame_ticks), expected, "{frame_ticks}");
        }
    }
}

#[test]
fn a_held_key_is_sent_until_it_is_released() {
    for frame_ticks in [160, 960] {
        let mut sender = Sender::default();
        let mut clock = RtpTimestamp(5);
        sender.press('4');
        let mut tones = Vec::new();
        for _ in 0..4 {
            if let Sending::Packet { payload, tone, .. } = sender.step(clock, frame_ticks) {
                assert_eq!(payload[1] & 0x80, 0);
                tones.push(tone);
            }
            clock = clock.after(frame_ticks);
        }
        assert_eq!(tones, [Tone::First('4'), Tone::On, Tone::On, Tone::On]);
        // It lasted for 90 ms; 80 ms of it have been sent.
        sender.release(90);
        sender.press('5');
        sender.release(10);
        let mut rest = over_the_wire(&mut sender, frame_ticks).into_iter();
        assert_eq!(rest.next(), Some(Press { key: '4', duration_ms: 90 }));
        assert_eq!(rest.next(), Some(Press { key: '5', duration_ms: 40 }));
        assert_eq!(rest.next(), None);
    }
}

#[test]
fn presses_are_logged_as_they_go_on() {
    let mut receiver = Receiver::default();
    let log = |receiver: &Receiver, from| receiver.log().since(from).collect::<Vec<_>>();
    presses(&mut receiver, [5, 10, 0, 160], 1000, MS);
    let first = Ongoing { number: 1, key: '5', duration_ms: 20, ended: false };
    assert_eq!(log(&receiver, 1), [first]);
    presses(&mut receiver, [5, 10, 3, 0x20], 1000, MS);
    assert_eq!(log(&receiver, 1), [Ongoing { duration_ms: 100, ..first }]);
    presses(&mut receiver, [6, 0x8a, 1, 0x40], 9000, MS);
    let second = Ongoing { number: 2, key: '6', duration_ms: 40, ended: true };
    assert_eq!(log(&receiver, 1), [Ongoing { duration_ms: 100, ended: true, ..first }, second]);
    assert_eq!(log(&receiver, 2), [second]);
    assert_eq!(receiver.log().begun(), 2);
}

#[test]
fn unknown_events_are_ignored_and_short_payloads_are_malformed() {
    let mut receiver = Receiver::default();
    assert_eq!(presses(&mut receiver, [16, 0x8a, 1, 0x40], 1000, MS), []);
    assert!(receiver.receive(&packet(&[1, 0x8a, 1], 1000), MS).is_none());
}

#[test]
fn presses_are_sent_as_the_rfc_says() {
    let mut sender = Sender::default();
    sender.push("4x#", 100, 80);
    let mut packets = Vec::new();
    let mut clock = RtpTimestamp(u32::MAX - 300);
    let mut steps = 0;
    while !sender.is_idle() {
        match sender.step(clock, 160) {
            Sending::Packet { marker, timestamp, payload, .. } => {
                packets.push((steps, marker, timestamp, payload));
            }
            Sending::Audio => {}
            Sending::Finished => assert!(sender.is_idle()),
        }
        clock = clock.after(160);
        steps += 1;
    }
    let (first, second) = packets.split_at(7);
    for (index, (step, marker, timestamp, payload)) in first.iter().enumerate() {
        let duration = (index as u16 + 1).min(5) * 160;
        assert_eq!((*step, *marker), (index, index == 0));
        assert_eq!(*timestamp, RtpTimestamp(u32::MAX - 300));
        assert_eq!(payload[0], 4);
        assert_eq!(payload[1] & 0x80 != 0, index >= 4);
        assert_eq!(u16::from_be_bytes([payload[2], payload[3]]), duration);
    }
    assert_eq!(second.len(), 7);
    assert_eq!(second[0].3[0], 11);
    // 100 ms of tone and 80 ms of gap lie between the starts.
    assert_eq!(second[0].0, 9);
    assert!(second[0].1);
    assert_eq!(steps, 18);
}

#[test]
fn what_is_sent_is_received() {
    let mut sender = Sender::default();
    let mut receiver = Receiver::default();
    sender.push("159D*#0", 60, 60);
    let (mut heard, mut clock, mut now) = (String::new(), RtpTimestamp(7), Duration::ZERO);
    while !sender.is_idle() {
        if let Sending::Packet { timestamp, payload, .. } = sender.step(clock, 160) {
            let ended = presses(&mut receiver, payload, timestamp.0, now);
            heard.extend(ended.iter().map(|press| press.key));
        }
        clock = clock.after(160);
        now += 20 * MS;
    }
    assert_eq!(heard, "159D*#0");
}

proptest! {
    /// Each press arrives once and in order, whichever packets are lost, if one of it is left.
    #[test]
    fn loss_never_doubles_a_press(fates in proptest::collection::vec(any::<bool>(), 200)) {
        let mut sender = Sender::default();
        let mut receiver = Receiver::default();
        sender.push("1234567890", 60, 140);
        let (mut heard, mut sent) = (String::new(), String::new());
        let (mut clock, mut now) = (RtpTimestamp(7), Duration::ZERO);
        for kept in fates {
            if let Sending::Packet { timestamp, payload, .. } = sender.step(clock, 160) && kept {
                let key = char::from(KEYS[usize::from(payload[0])]);
                if !sent.ends_with(key) {
                    sent.push(key);
                }
                let ended = presses(&mut receiver, payload, timestamp.0, now);
                heard.extend(ended.iter().map(|press| press.key));
            }
            heard.extend(receiver.poll(now).map(|press| press.key));
            clock = clock.after(160);
            now += 20 * MS;
        }
        heard.extend(receiver.poll(now + LOST_END).map(|press| press.key));
        prop_assert_eq!(heard, sent);
    }

    #[test]
    fn any_payload_never_panics(
        packets in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..8), any::<u32>()), 0..50),
    ) {
        let mut receiver = Receiver::default();
        for (payload, timestamp) in &packets {
            receiver.receive(&packet(payload, *timestamp), Duration::ZERO);
        }
        receiver.reset();
    }
}

#[test]
fn a_flood_of_events_begins_few_presses_and_a_press_after_it_is_heard() {
    let mut receiver = Receiver::default();
    let mut presses = 0;
    let event = |timestamp: u32, payload: &[u8; PAYLOAD_LEN], receiver: &mut Receiver, now| {
        let packet = Packet {
            marker: true,
            pt: Pt(101),
            sequence: SequenceNumber(timestamp as u16),
            timestamp: RtpTimestamp(timestamp),
            ssrc: Ssrc(7),
            payload,
        };
        receiver.receive(&packet, now).into_iter().flatten().flatten().count()
    };
    // Two thousand a second, each a press of its own.
    for number in 0..20_000 {
        let now = Duration::from_micros(500) * number;
        presses += event(number * 160, &[5, 0x8a, 3, 0x20], &mut receiver, now);
    }
    assert!((100..=420).contains(&presses), "{presses} in 10 s");
    assert!(receiver.log().begun() <= 420);
    let later = Duration::from_secs(11);
    assert_eq!(event(4_000_000, &[5, 0x8a, 3, 0x20], &mut receiver, later), 1);
}

#[test]
fn keys_that_come_faster_than_they_can_be_passed_on_do_not_pile_up() {
    let mut sender = Sender::default();
    for _ in 0..10_000 {
        sender.press('5');
        sender.release(40);
    }
    assert!(sender.waiting.len() <= 64, "{} wait", sender.waiting.len());
}
