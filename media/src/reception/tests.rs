use std::time::Duration;

use super::*;
use crate::rtp::Pt;
use crate::simulator::Network;

fn packet(sequence: u16, ssrc: u32) -> Packet<'static> {
    Packet {
        marker: false,
        pt: Pt(8),
        sequence: SequenceNumber(sequence),
        timestamp: RtpTimestamp(0),
        ssrc: Ssrc(ssrc),
        payload: &[],
    }
}

#[test]
fn loss_is_counted_across_the_wrap() {
    let mut reception = Reception::default();
    for step in 0..200u16 {
        if step % 10 != 5 {
            reception.count(&packet(65_500u16.wrapping_add(step), 1));
        }
    }
    assert_eq!((reception.received(), reception.lost()), (180, 20));
    assert_eq!(reception.counts().gaps, 20);
    assert_eq!(reception.extended_highest(), (1 << 16) + 163);
}

#[test]
fn reordering_and_duplicates_are_no_loss_and_no_gain() {
    let mut reception = Reception::default();
    let arrivals: Vec<Arrival> =
        [1, 3, 2, 3, 2, 6, 4].iter().map(|each| reception.count(&packet(*each, 1))).collect();
    use Arrival::{Duplicate, NewSource, Newest, Overtaken};
    let expected = [NewSource, Newest, Overtaken, Duplicate, Duplicate, Newest, Overtaken];
    assert_eq!(arrivals, expected);
    assert_eq!((reception.received(), reception.lost(), reception.duplicates()), (5, 1, 2));
}

#[test]
fn another_source_keeps_former_losses() {
    let mut reception = Reception::default();
    for sequence in [1, 2, 5] {
        reception.count(&packet(sequence, 1));
    }
    assert_eq!(reception.count(&packet(29_999, 2)), Arrival::Suspect);
    assert_eq!(reception.count(&packet(30_000, 2)), Arrival::NewSource);
    assert_eq!(reception.count(&packet(30_002, 2)), Arrival::Newest);
    assert_eq!((reception.received(), reception.lost()), (5, 3));
    assert_eq!(reception.ssrc(), Some(Ssrc(2)));
}

#[test]
fn a_stray_packet_of_another_source_changes_nothing() {
    let mut reception = Reception::default();
    for sequence in 0..100 {
        assert_ne!(reception.count(&packet(sequence, 1)), Arrival::Suspect);
        assert_eq!(reception.count(&packet(sequence * 7, 2)), Arrival::Suspect);
    }
    assert_eq!((reception.received(), reception.lost()), (100, 0));
}

#[test]
fn a_restart_is_believed_at_its_second_packet() {
    let mut reception = Reception::default();
    reception.count(&packet(1, 1));
    assert_eq!(reception.count(&packet(20_000, 1)), Arrival::Suspect);
    assert_eq!(reception.count(&packet(20_001, 1)), Arrival::Restart);
    assert_eq!(reception.count(&packet(20_002, 1)), Arrival::Newest);
    assert_eq!(reception.lost(), 0);
}

#[test]
fn a_steady_stream_has_no_jitter_and_an_unsteady_one_has() {
    for rate_hz in [8000, 48_000] {
        let mut steady = Reception::default();
        let mut unsteady = Reception::default();
        steady.set_clock_rate(rate_hz);
        unsteady.set_clock_rate(rate_hz);
        for index in 0..500u32 {
            let sent = RtpTimestamp(index.wrapping_mul(rate_hz / 50));
            let arrival = Duration::from_millis(20) * index;
            steady.count(&packet(index as u16, 1));
            steady.measure(sent, Some(arrival));
            unsteady.count(&packet(index as u16, 1));
            unsteady
                .measure(sent, Some(arrival + Duration::from_millis(u64::from(index % 2) * 10)));
        }
        assert!(steady.jitter_ms() < 0.2);
        assert!((unsteady.jitter_ms() - 10.0).abs() < 1.0);
    }
}

#[test]
fn what_the_network_lost_and_doubled_is_counted_exactly() {
    for seed in 0..200 {
        let network = Network {
            seed,
            loss: 0.05,
            burst: 2.0,
            jitter: Duration::from_millis(80),
            held: 0.01,
            hold: Duration::from_millis(150),
            doubled: 0.02,
            reorders: true,
            ..Network::default()
        };
        let delivery = network.carry(5000, Duration::from_millis(20));
        let mut reception = Reception::default();
        for (_, index) in &delivery.arrivals {
            reception.count(&packet((*index as u16).wrapping_add(60_000), 1));
        }
        let (first, last) = delivery
            .arrivals
            .iter()
            .fold((5000, 0), |(first, last), (_, each)| (first.min(*each), last.max(*each)));
        // What came before the first one to arrive was not expected.
        let began = delivery.arrivals[0].1;
        let lost = delivery.lost.iter().filter(|each| (began..=last).contains(*each)).count();
        let early = (first..began).filter(|each| !delivery.lost.contains(each)).count();
        let counts = reception.counts();
        assert_eq!(reception.lost(), lost as i64 - early as i64, "seed {seed}");
        let doubled = delivery.arrivals.len() as u64 - reception.received();
        assert_eq!(reception.duplicates(), doubled);
        assert_eq!(counts.expected as usize, last - began + 1);
    }
}
