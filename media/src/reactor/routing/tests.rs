//! Ports that move between slots, on turns of the wheel that a test gives, and real sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::unbounded;

use super::*;
use crate::clock::{self, Now};
use crate::codec::Codec;
use crate::disk::Disk;
use crate::event::{Command, Connection, WakingQueue};
use crate::figures::Figures;
use crate::reactor::{Inbox, Shared};
use crate::rtp::{Packet, Pt};
use crate::secure::dtls::Identity;
use crate::socket::{PortNumbers, PortSockets, RtpSocket};
use crate::wheel::{SLOT, Wheel};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn bound() -> RtpSocket {
    let mut numbers = 44_000..45_000;
    numbers.find_map(|port| RtpSocket::bind(SocketAddr::new(LOCALHOST, port)).ok()).unwrap()
}

/// A reactor whose thread does not run, with a port of packets of 10 ms.
struct Bench {
    reactor: Reactor,
    inbox: Inbox,
    now: Now,
    key: usize,
    far: RtpSocket,
}

impl Bench {
    fn new(identity: &Arc<Identity>) -> Self {
        let shared = Shared {
            commands: WakingQueue::new().unwrap(),
            events: WakingQueue::new().unwrap(),
            figures: Arc::new(Figures::default()),
            waiting_pieces: Arc::new(AtomicUsize::new(0)),
            numbers: Arc::new(Mutex::new(PortNumbers::new(2, 4, Duration::ZERO))),
            identity: Arc::clone(identity),
        };
        let far = bound();
        let remote = SocketAddr::new(LOCALHOST, far.port());
        let connection =
            Connection { packet_time_ms: 10, ..Connection::new(remote, Codec::Pcma, Pt(8)) };
        let sockets = PortSockets { media: bound(), reports: bound() };
        shared.commands.push(Command::Open(PortId(1), sockets));
        shared.commands.push(Command::Connect(PortId(1), connection));
        let (disk, _threads) = Disk::start(shared.events.clone()).unwrap();
        let mut reactor = Reactor::new(shared, unbounded().0, disk).unwrap();
        let now = clock::now();
        reactor.wheel = Wheel::new(now);
        reactor.obey(now);
        let key = reactor.port_keys[&PortId(1)];
        Self { reactor, inbox: Inbox::new(), now, key, far }
    }

    /// Moves the port as a group that gathers does.
    fn settle(&mut self, slot: usize) {
        if self.reactor.settle(Sink::Port(self.key), slot) {
            let (_, round) = self.reactor.wheel.next();
            self.reactor.tick_members(&[self.key], &[], round, None);
        }
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            let tick = self.reactor.wheel.pop_due(self.now).unwrap();
            self.reactor.tick(&tick, &mut self.inbox);
            self.now += SLOT;
        }
    }
}

fn sequences(far: &mut RtpSocket) -> Vec<u16> {
    let mut buffer = [0; 512];
    let read = std::iter::from_fn(|| {
        let (len, _) = far.receive(&mut buffer).ok()?;
        Some(Packet::parse(&buffer[..len]).unwrap().sequence.0)
    });
    read.collect()
}

#[test]
fn packets_of_10_ms_stay_in_order_when_their_port_moves() {
    let identity = Arc::new(Identity::generate().unwrap());
    let places = (0..SLOTS).flat_map(|former| (0..SLOTS).map(move |slot| (former, slot)));
    for (former, slot) in places {
        for turns in 0..SLOTS {
            let mut bench = Bench::new(&identity);
            bench.settle(former);
            bench.turns(2 * SLOTS + turns);
            bench.settle(slot);
            bench.turns(2 * SLOTS);
            let sequences = sequences(&mut bench.far);
            let steps = sequences.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
            assert!(
                steps.into_iter().all(|step| step == 1) && sequences.len() >= 7,
                "from slot {former} to {slot} after {turns} turns: {sequences:?}"
            );
        }
    }
}
