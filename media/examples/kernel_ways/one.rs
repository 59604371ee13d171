//! One system call a packet.

use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, recvfrom, send, sendto};
use rustix::time::Timespec;

use crate::world::{BUFFER_LEN, DATAGRAM, World};
use crate::{Result, Way};

const READY_BATCH: usize = 512;

/// When a socket is read.
enum Reading {
    /// When epoll names it, once; it is named again when more is there.
    Epoll(Box<Watch>),
    /// When epoll names it, until nothing is left.
    EpollEdge(Box<Watch>),
    /// At its tick, once.
    Once,
    /// At its tick, until nothing is left.
    UntilEmpty,
    /// The same, and its packet is sent before the next socket is read.
    AndSend,
}

struct OneByOne {
    reading: Reading,
    connected: bool,
    /// Ask for the sender of each datagram, though only one can be heard.
    named: bool,
    buffer: [u8; BUFFER_LEN],
}

pub fn bare(_world: &World) -> Result<Box<dyn Way>> {
    one_by_one(Reading::Once, false)
}

pub fn epoll(world: &World) -> Result<Box<dyn Way>> {
    one_by_one(Reading::Epoll(Box::new(Watch::new(world, epoll::EventFlags::IN)?)), false)
}

pub fn epoll_connected(world: &World) -> Result<Box<dyn Way>> {
    one_by_one(Reading::Epoll(Box::new(Watch::new(world, epoll::EventFlags::IN)?)), true)
}

pub fn epoll_connected_named(world: &World) -> Result<Box<dyn Way>> {
    let reading = Reading::Epoll(Box::new(Watch::new(world, epoll::EventFlags::IN)?));
    let buffer = [0; BUFFER_LEN];
    Ok(Box::new(OneByOne { reading, connected: true, named: true, buffer }))
}

pub fn epoll_edge_connected(world: &World) -> Result<Box<dyn Way>> {
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    one_by_one(Reading::EpollEdge(Box::new(Watch::new(world, flags)?)), true)
}

pub fn until_empty(_world: &World) -> Result<Box<dyn Way>> {
    one_by_one(Reading::UntilEmpty, false)
}

pub fn until_empty_connected(_world: &World) -> Result<Box<dyn Way>> {
    one_by_one(Reading::UntilEmpty, true)
}

pub fn port_by_port(_world: &World) -> Result<Box<dyn Way>> {
    one_by_one(Reading::AndSend, true)
}

pub fn once_connected(_world: &World) -> Result<Box<dyn Way>> {
    one_by_one(Reading::Once, true)
}

fn one_by_one(reading: Reading, connected: bool) -> Result<Box<dyn Way>> {
    Ok(Box::new(OneByOne { reading, connected, named: false, buffer: [0; BUFFER_LEN] }))
}

impl OneByOne {
    /// True when there was a datagram.
    fn receive(&mut self, socket: &OwnedFd) -> bool {
        if self.connected && !self.named {
            recv(socket, &mut self.buffer, RecvFlags::TRUNC).is_ok()
        } else {
            recvfrom(socket, &mut self.buffer, RecvFlags::TRUNC).is_ok()
        }
    }

    fn send_one(&self, world: &World, call: usize) -> io::Result<()> {
        let (socket, to) = (&world.near[call], &world.far_addresses[call]);
        if self.connected {
            send(socket, &DATAGRAM, SendFlags::NOSIGNAL)?;
        } else {
            sendto(socket, &DATAGRAM, SendFlags::NOSIGNAL, to)?;
        }
        Ok(())
    }
}

impl Way for OneByOne {
    fn take_in(&mut self, world: &World, slot: usize) -> io::Result<usize> {
        let mut count = 0;
        if let Reading::Epoll(watch) = &mut self.reading {
            let mut watch = std::mem::take(watch);
            while watch.wait()? {
                count += watch.calls().filter(|call| self.receive(&world.near[*call])).count();
            }
            self.reading = Reading::Epoll(watch);
            return Ok(count);
        }
        if let Reading::EpollEdge(watch) = &mut self.reading {
            let mut watch = std::mem::take(watch);
            while watch.wait()? {
                for call in watch.calls() {
                    while self.receive(&world.near[call]) {
                        count += 1;
                    }
                }
                if watch.ready.len() < READY_BATCH {
                    break;
                }
            }
            self.reading = Reading::EpollEdge(watch);
            return Ok(count);
        }
        for call in world.calls(slot) {
            while self.receive(&world.near[call]) {
                count += 1;
                if matches!(self.reading, Reading::Once) {
                    break;
                }
            }
            if matches!(self.reading, Reading::AndSend) {
                self.send_one(world, call)?;
            }
        }
        Ok(count)
    }

    fn send(&mut self, world: &World, slot: usize) -> io::Result<()> {
        if matches!(self.reading, Reading::AndSend) {
            return Ok(());
        }
        world.calls(slot).try_for_each(|call| self.send_one(world, call))
    }
}

/// Sockets watched by epoll.
#[derive(Default)]
pub struct Watch {
    epoll: Option<OwnedFd>,
    ready: Vec<epoll::Event>,
}

impl Watch {
    /// Watches all our sockets.
    pub fn new(world: &World, flags: epoll::EventFlags) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (call, socket) in world.near.iter().enumerate() {
            let data = epoll::EventData::new_u64(call as u64);
            epoll::add(&epoll, socket, data, flags)?;
        }
        Ok(Self { epoll: Some(epoll), ready: Vec::with_capacity(READY_BATCH) })
    }

    /// Asks which are readable now; false when none is.
    pub fn wait(&mut self) -> io::Result<bool> {
        self.ready.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let epoll = self.epoll.as_ref().ok_or(Errno::BADF)?;
        epoll::wait(epoll, spare_capacity(&mut self.ready), Some(&at_once))?;
        Ok(!self.ready.is_empty())
    }

    /// The calls whose sockets are readable.
    pub fn calls(&self) -> impl Iterator<Item = usize> {
        self.ready.iter().map(|event| event.data.u64() as usize)
    }
}
