use super::*;
use crate::rtp::{Packet as RtpPacket, Pt, SequenceNumber};
use crate::simulator::{Network, Random};

const MS: Duration = Duration::from_millis(1);

/// One party of a session: what it sends and what it receives.
struct Party {
    session: Session,
    reception: Reception,
    packets: u64,
}

impl Party {
    fn new(ssrc: u32, clock: Duration) -> Self {
        Self {
            session: Session::new(Ssrc(ssrc), [ssrc as u8; 12], clock),
            reception: Reception::default(),
            packets: 0,
        }
    }

    fn hear(&mut self, ssrc: u32, index: usize, now: Now) {
        let packet = RtpPacket {
            marker: false,
            pt: Pt(8),
            sequence: SequenceNumber(index as u16),
            timestamp: RtpTimestamp(index as u32 * 160),
            ssrc: Ssrc(ssrc),
            payload: &[],
        };
        self.reception.count(&packet);
        self.reception.measure(packet.timestamp, Some(now));
    }

    fn report(&mut self, now: Now) -> Vec<u8> {
        let sent =
            Sent { timestamp: RtpTimestamp(0), packets: self.packets, octets: self.packets * 160 };
        let mut out = [0; MAX_LEN];
        let len = self.session.report(sent, &self.reception, now, &mut out);
        out[..len].to_vec()
    }

    fn take(&mut self, datagram: &[u8], now: Now) -> Received {
        self.session.receive(datagram, now).unwrap()
    }
}

#[test]
fn reports_come_every_2_to_6_s_and_parties_drift_apart() {
    let (mut first, mut times) = (Party::new(1, Duration::ZERO), Vec::new());
    first.session.start(Duration::ZERO);
    for second in 0..30_000u32 {
        let now = second * 100 * MS;
        if first.session.is_due(now) {
            first.report(now);
            times.push(now);
        }
    }
    assert!(times[0] < Duration::from_millis(3200));
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (2000 * MS..6300 * MS).contains(gap)));
    let mean = times.last().unwrap().as_secs_f64() / times.len() as f64;
    assert!((4.0..4.3).contains(&mean), "{mean}: 5 s divided by the compensation");
}

#[test]
fn the_round_trip_is_measured_whatever_the_clocks_say() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let one_way = [random.below(400), random.below(400)].map(Duration::from_millis);
        let clocks = [random.below(1 << 32), random.below(1 << 32)].map(Duration::from_secs);
        let (mut here, mut there) = (Party::new(1, clocks[0]), Party::new(2, clocks[1]));
        let start = Duration::from_millis(random.below(1_000_000));
        here.packets = 1;
        here.hear(2, 0, start);
        there.hear(1, 0, start);
        assert_eq!(here.session.round_trip(), None);
        let report = here.report(start);
        there.take(&report, start + one_way[0]);
        let answered = start + one_way[0] + Duration::from_millis(random.below(60_000));
        let report = there.report(answered);
        here.take(&report, answered + one_way[1]);
        let measured = here.session.round_trip().unwrap();
        let real = one_way[0] + one_way[1];
        assert!(measured.abs_diff(real) < MS, "seed {seed}: {measured:?} and not {real:?}");
    }
}

#[test]
fn both_ends_agree_on_what_was_lost() {
    for seed in 0..20 {
        let network = Network {
            seed,
            loss: 0.1,
            burst: 2.0,
            jitter: 30 * MS,
            doubled: 0.02,
            reorders: true,
            ..Network::default()
        };
        let (mut here, mut there) = (Party::new(1, Duration::ZERO), Party::new(2, Duration::ZERO));
        let delivery = network.carry(2000, 20 * MS);
        for (at, index) in &delivery.arrivals {
            there.hear(1, *index, *at);
        }
        let now = Duration::from_secs(60);
        let report = there.report(now);
        here.take(&report, now);
        let far = here.session.far().unwrap();
        assert_eq!(i64::from(far.lost), there.reception.lost());
        let share = f64::from(far.fraction_lost) / 256.0;
        assert!((share - delivery.lost.len() as f64 / 2000.0).abs() < 0.01);
        assert!(far.jitter > 0);
        // A second report tells only of the time since.
        let report = there.report(now + 5000 * MS);
        here.take(&report, now);
        assert_eq!(here.session.far().unwrap().fraction_lost, 0);
    }
}

#[test]
fn who_has_sent_nothing_lately_reports_as_a_receiver() {
    let mut party = Party::new(1, Duration::ZERO);
    let kind = |datagram: Vec<u8>| datagram[1];
    assert_eq!(kind(party.report(MS)), 201);
    party.packets = 10;
    assert_eq!(
        [kind(party.report(MS)), kind(party.report(MS)), kind(party.report(MS))],
        [200, 200, 201]
    );
}

#[test]
fn a_goodbye_is_the_last_word() {
    let (mut here, mut there) = (Party::new(1, Duration::ZERO), Party::new(2, Duration::ZERO));
    here.session.start(Duration::ZERO);
    let mut out = [0; MAX_LEN];
    let sent = Sent { timestamp: RtpTimestamp(0), packets: 1, octets: 160 };
    let len = here.session.goodbye(sent, &here.reception, MS, &mut out);
    assert_eq!(there.take(&out[..len], MS), Received::Goodbye);
    assert!(!here.session.is_due(Duration::from_secs(60)));
}

#[test]
fn reports_on_other_streams_and_lies_about_delays_are_not_believed() {
    let mut here = Party::new(1, Duration::ZERO);
    let mut other = Party::new(3, Duration::ZERO);
    other.hear(2, 5, MS);
    let report = other.report(MS);
    assert_eq!(here.take(&report, MS), Received::Alive);
    assert_eq!((here.session.far(), here.session.round_trip()), (None, None));
    let lie = |last_sr, delay_since_last_sr| {
        let ssrc = Ssrc(1);
        let (fraction_lost, lost, highest, jitter) = (0, 0, 0, 0);
        let block = ReportBlock {
            ssrc,
            fraction_lost,
            lost,
            highest,
            jitter,
            last_sr,
            delay_since_last_sr,
        };
        let mut out = [0; MAX_LEN];
        let report = Compound {
            ssrc: Ssrc(9),
            sender: None,
            block: Some(block),
            cname: "x",
            goodbye: false,
        };
        let len = report.write(&mut out);
        out[..len].to_vec()
    };
    let now = Duration::from_secs(1000);
    let middle = NtpTime::since_1900(now).middle();
    here.take(&lie(middle - 65536 * 60, 0), now);
    assert_eq!(here.session.round_trip(), None, "a minute is no round trip");
    here.take(&lie(middle, 65536), now);
    assert_eq!(here.session.round_trip(), Some(Duration::ZERO));
}
