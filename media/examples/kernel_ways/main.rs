//! What each way into the kernel costs for many sockets that send and receive one packet of voice
//! every 20 ms.
//!
//! `cargo run --release --no-default-features --example kernel_ways -- SOCKETS TURNS [NAME]`
//!
//! Each way is compared with bare `sendto` and `recvfrom`, turn by turn of a wheel of ten slots as
//! the reactor has it, so that both meet the same noise. Far ends, one socket each and always with plain calls, send half a turn before their
//! packet is read. CPU time is this thread's. On loopback the far end's `sendto` holds the kernel's
//! work of our reception, the wake-up of epoll included, so it is shown and counted too.

use std::error::Error;

use _media::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod many;
mod one;
mod uring;
mod world;

use world::{Opened, SLOTS, World};

/// Turns before those that are counted.
const WARM_UP_TURNS: usize = 3;

/// Far ends send this many slots before ours read.
const LEAD: usize = SLOTS / 2;

const MAX_SOCKETS: usize = 10_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One way to move packets, on the sockets of a world.
pub trait Way {
    /// Receives what a slot's turn takes in; returns how many datagrams.
    fn take_in(&mut self, world: &World, slot: usize) -> std::io::Result<usize>;

    /// Sends one datagram from each port of the slot.
    fn send(&mut self, world: &World, slot: usize) -> std::io::Result<()>;
}

type Make = fn(&World) -> Result<Box<dyn Way>>;

/// Name, how the sockets are opened, and the way.
const WAYS: [(&str, Opened, Make); 21] = [
    ("recvfrom once at the tick, sendto (bare)", Opened::PLAIN, one::bare),
    ("epoll, recvfrom, sendto", Opened::PLAIN, one::epoll),
    ("epoll, connected: recv, send", Opened::CONNECTED, one::epoll_connected),
    ("epoll, connected: recvfrom, send", Opened::CONNECTED, one::epoll_connected_named),
    ("epoll, edge-triggered, until empty, connected", Opened::CONNECTED, one::epoll_edge_connected),
    ("epoll, recvmmsg of 4, sendmmsg of 1", Opened::PLAIN, many::epoll),
    ("epoll, SO_BUSY_POLL 50 us", Opened::BUSY_POLL, one::epoll),
    ("epoll, SO_RCVBUF 16 KiB", Opened::SMALL_BUFFER, one::epoll),
    ("at the tick until empty: recvfrom, sendto", Opened::PLAIN, one::until_empty),
    ("at the tick until empty, connected", Opened::CONNECTED, one::until_empty_connected),
    ("until empty and send, port by port, connected", Opened::CONNECTED, one::port_by_port),
    ("once at the tick, connected", Opened::CONNECTED, one::once_connected),
    ("at the tick: recvmmsg of 4, sendto", Opened::PLAIN, many::at_tick),
    ("at the tick: recvmmsg of 2, connected", Opened::CONNECTED, many::at_tick_connected),
    ("at the tick: recvmmsg with SO_TIMESTAMPNS", Opened::STAMPED, many::at_tick_stamped),
    (
        "at the tick until empty: recvmsg with SO_TIMESTAMPNS, connected",
        Opened::STAMPED_CONNECTED,
        many::at_tick_connected_stamped,
    ),
    ("two a port: connected, and a listener in epoll", Opened::TWO, one::once_connected),
    ("io_uring at the tick, sendto", Opened::PLAIN, uring::at_tick),
    ("io_uring at the tick, connected", Opened::CONNECTED, uring::at_tick_connected),
    ("io_uring multishot recv, connected", Opened::CONNECTED, uring::multishot),
    ("a socket for 500 calls: recvmmsg, sendmmsg of 64", Opened::SHARED, many::shared),
];

/// CPU of one turn, in nanoseconds a packet.
#[derive(Clone, Copy, Default)]
struct Cost {
    receive: f64,
    send: f64,
    far_send: f64,
    far_receive: f64,
}

impl Cost {
    /// Ours, both directions together.
    fn ours(self) -> f64 {
        (self.receive + self.send) / 2.0
    }

    fn all(self) -> f64 {
        self.ours() + (self.far_send + self.far_receive) / 2.0
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sockets, turns, wanted @ ..] = &arguments[..] else {
        return Err("usage: kernel_ways SOCKETS TURNS [NAME]".into());
    };
    let sockets = sockets.parse::<usize>()?.clamp(SLOTS, MAX_SOCKETS);
    let turns = turns.parse::<usize>()?.max(1);
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    println!("{sockets} sockets, medians of {turns} turns; CPU in ns: ours and (the far end's)");
    println!("| way | receive | send | ours a packet, to bare | both ends, to bare |");
    println!("|---|---|---|---|---|");
    for (name, opened, make) in WAYS {
        if wanted.iter().all(|part| name.contains(part.as_str())) {
            match compare(sockets, turns, opened, make) {
                Ok(costs) => show(name, &costs),
                Err(error) => println!("| {name} | {error} |"),
            }
        }
    }
    Ok(())
}

/// What a way and the bare calls cost in each turn.
fn compare(sockets: usize, turns: usize, opened: Opened, make: Make) -> Result<Vec<[Cost; 2]>> {
    let (_, bare_opened, make_bare) = WAYS[0];
    let mut bare = Run::start(sockets, bare_opened, make_bare)?;
    let mut other = Run::start(sockets, opened, make)?;
    let mut costs = Vec::new();
    for _ in 0..WARM_UP_TURNS + turns {
        costs.push([bare.turn()?, other.turn()?]);
    }
    bare.check(costs.len())?;
    other.check(costs.len())?;
    Ok(costs.split_off(WARM_UP_TURNS))
}

/// A way on its sockets.
struct Run {
    world: World,
    way: Box<dyn Way>,
    received: usize,
}

impl Run {
    fn start(sockets: usize, opened: Opened, make: Make) -> Result<Self> {
        let world = World::open(sockets, opened)?;
        let way = make(&world)?;
        for slot in 0..LEAD {
            world.far_send(slot)?;
        }
        Ok(Self { world, way, received: 0 })
    }

    /// One turn of the wheel: each port receives and sends once.
    fn turn(&mut self) -> Result<Cost> {
        let mut cost = Cost::default();
        let mut last = clock::thread_cpu();
        let mut lap = |sum: &mut f64| {
            let now = clock::thread_cpu();
            *sum += (now - std::mem::replace(&mut last, now)).as_nanos() as f64;
        };
        for slot in 0..SLOTS {
            self.world.far_send((slot + LEAD) % SLOTS)?;
            lap(&mut cost.far_send);
            self.received += self.way.take_in(&self.world, slot)?;
            lap(&mut cost.receive);
            self.way.send(&self.world, slot)?;
            lap(&mut cost.send);
            self.world.far_receive(slot)?;
            lap(&mut cost.far_receive);
        }
        let packets = self.world.far_addresses.len() as f64;
        for sum in [&mut cost.receive, &mut cost.send, &mut cost.far_send, &mut cost.far_receive] {
            *sum /= packets;
        }
        Ok(cost)
    }

    /// A way that loses packets is no cheap one.
    fn check(&self, turns: usize) -> Result<()> {
        let sent = self.world.far_addresses.len() * turns;
        if self.received < sent {
            return Err(format!("received {} of {sent}", self.received).into());
        }
        Ok(())
    }
}

fn show(name: &str, costs: &[[Cost; 2]]) {
    let of = |get: fn(&Cost) -> f64| median(costs.iter().map(|[_, own]| get(own)));
    let ratio =
        |get: fn(Cost) -> f64| median(costs.iter().map(|[bare, own]| get(*own) / get(*bare)));
    println!(
        "| {name} | {:.0} ({:.0}) | {:.0} ({:.0}) | {:.2} | {:.2} |",
        of(|cost| cost.receive),
        of(|cost| cost.far_send),
        of(|cost| cost.send),
        of(|cost| cost.far_receive),
        ratio(Cost::ours),
        ratio(Cost::all),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
