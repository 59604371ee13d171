use super::*;
use crate::dtmf::{Receiver, Sender, Sending};
use crate::rtp::{Packet, Pt, RtpTimestamp, SequenceNumber, Ssrc};

const FRAME: Duration = Duration::from_millis(20);

#[test]
fn losses_come_as_often_and_in_such_bursts_as_asked_for() {
    let network = Network { loss: 0.1, burst: 3.0, ..Network::default() };
    let lost = network.carry(100_000, Duration::from_millis(20)).lost;
    let bursts = lost.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() + 1;
    assert!((9_000..11_000).contains(&lost.len()), "{}", lost.len());
    let mean = lost.len() as f64 / bursts as f64;
    assert!((2.7..3.3).contains(&mean), "{mean}");
}

/// An event packet as it was sent.
struct Sent {
    timestamp: RtpTimestamp,
    payload: [u8; 4],
    marker: bool,
    /// Which press it belongs to.
    press: usize,
}

fn dialled(digits: &str) -> Vec<Option<Sent>> {
    let mut sender = Sender::default();
    sender.push(digits, 100, 100);
    let (mut sent, mut clock, mut press) = (Vec::new(), RtpTimestamp(u32::MAX - 4000), 0);
    while !sender.is_idle() {
        sent.push(match sender.step(clock, 160) {
            Sending::Packet { marker, timestamp, payload, .. } => {
                press += usize::from(marker);
                Some(Sent { timestamp, payload, marker, press })
            }
            _ => None,
        });
        clock = clock.after(160);
    }
    sent
}

/// A fifth of the packets lost, by chance or in bursts, others doubled and out of order: every
/// press of which a packet comes in time is heard once, and none twice.
#[test]
fn digits_are_neither_missed_nor_doubled_when_a_fifth_of_the_packets_is_lost() {
    let digits = "13812345678#0*9551";
    let sent = dialled(digits);
    let mut complete = 0;
    for seed in 0..1000 {
        let network = Network {
            seed,
            loss: 0.2,
            burst: [1.0, 1.5][seed as usize % 2],
            jitter: Duration::from_millis(60),
            doubled: 0.05,
            reorders: true,
            ..Network::default()
        };
        let mut receiver = Receiver::default();
        let (mut heard, mut came) = (String::new(), vec![false; digits.len()]);
        let arrivals = network.carry(sent.len(), FRAME).arrivals;
        for (now, index) in arrivals {
            heard.extend(receiver.poll(now).map(|press| press.key));
            let Some(event) = &sent[index] else { continue };
            came[event.press - 1] = true;
            let packet = Packet {
                marker: event.marker,
                pt: Pt(101),
                sequence: SequenceNumber(index as u16),
                timestamp: event.timestamp,
                ssrc: Ssrc(1),
                payload: &event.payload,
            };
            let ended = receiver.receive(&packet, now).unwrap();
            heard.extend(ended.iter().flatten().map(|press| press.key));
        }
        heard.extend(receiver.reset().map(|press| press.key));
        let expected: String =
            digits.chars().zip(&came).filter(|(_, came)| **came).map(|(digit, _)| digit).collect();
        assert_eq!(heard, expected, "seed {seed}");
        complete += u32::from(heard == digits);
    }
    assert!(complete >= 995, "{complete} of 1000 numbers came whole");
}
