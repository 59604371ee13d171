//! The bare system calls that the engine is measured by, on sockets laid out as those of the run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use _media::clock;
use _media::socket::RtpSocket;

use crate::Result;

/// The bare calls have an address of their own, where every number is free.
const BARE_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const FIRST_BARE_PORT: u16 = 10_000;
/// More would take the descriptors that thousands of calls need.
const MAX_BARE_CALLS: usize = 1000;
const SETTLE_ROUNDS: usize = 2;

/// A socket for each call, and far ends that as many calls share as in the run.
pub struct BareCalls {
    near: Vec<RtpSocket>,
    far: Vec<RtpSocket>,
    sharers: usize,
}

impl BareCalls {
    pub fn open(calls: usize, sharers: usize) -> Result<Self> {
        let calls = calls.min(MAX_BARE_CALLS);
        let mut sockets = (FIRST_BARE_PORT..u16::MAX)
            .filter_map(|port| RtpSocket::bind(SocketAddr::new(BARE_HOST, port)).ok());
        let near = sockets.by_ref().take(calls).collect();
        let far = sockets.take(calls.div_ceil(sharers)).collect();
        let mut calls = Self { near, far, sharers };
        for _ in 0..SETTLE_ROUNDS {
            calls.packet_us()?;
        }
        Ok(calls)
    }

    /// CPU of one packet that a call sends or receives by `sendto` or `recvfrom`.
    pub fn packet_us(&mut self) -> Result<f64> {
        let datagram = [0x80; 172];
        let mut buffer = [0; 1500];
        let mut packets = 0u32;
        let addresses = self.far.iter().map(|far| SocketAddr::new(BARE_HOST, far.port()));
        let addresses: Vec<SocketAddr> = addresses.collect();
        let started = clock::thread_cpu();
        for (near, to) in self.near.chunks_mut(self.sharers).zip(&addresses) {
            for socket in near {
                socket.send(&datagram, to)?;
            }
        }
        let mut used = clock::thread_cpu() - started;
        for (near, far) in self.near.chunks(self.sharers).zip(&mut self.far) {
            while far.receive(&mut buffer).is_ok() {}
            for socket in near {
                far.send(&datagram, &SocketAddr::new(BARE_HOST, socket.port()))?;
            }
        }
        let started = clock::thread_cpu();
        for socket in &mut self.near {
            socket.receive(&mut buffer)?;
            packets += 2;
        }
        used += clock::thread_cpu() - started;
        Ok(used.as_secs_f64() * 1e6 / f64::from(packets))
    }
}
