//! Many packets a system call: `recvmmsg` and `sendmmsg`, on a socket each and on one for all.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::SocketAddrV4;

use rustix::event::epoll as rustix_epoll;
use rustix::net::{SendFlags, send, sendto};

use crate::one::Watch;
use crate::world::{BUFFER_LEN, DATAGRAM, World};
use crate::{Result, Way};

const BATCH: usize = 64;
/// Room for one control message with a `timespec`.
const CONTROL_LEN: usize = 64;

/// Message heads with all they point to, for receiving.
struct Inbox {
    headers: Vec<libc::mmsghdr>,
    names: Box<[libc::sockaddr_in]>,
    _parts: Box<[libc::iovec]>,
    _buffers: Box<[[u8; BUFFER_LEN]]>,
    controls: Option<Box<[[u8; CONTROL_LEN]]>>,
}

impl Inbox {
    fn new(len: usize, named: bool, stamped: bool) -> Self {
        let mut buffers = vec![[0; BUFFER_LEN]; len].into_boxed_slice();
        let mut controls = stamped.then(|| vec![[0; CONTROL_LEN]; len].into_boxed_slice());
        let mut names = vec![zeroed_name(); len].into_boxed_slice();
        let mut parts: Box<[libc::iovec]> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_LEN })
            .collect();
        let headers = (0..len)
            .map(|index| {
                let mut header = zeroed_header();
                header.msg_hdr.msg_iov = &raw mut parts[index];
                header.msg_hdr.msg_iovlen = 1;
                if named {
                    header.msg_hdr.msg_name = (&raw mut names[index]).cast();
                    header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                }
                if let Some(controls) = &mut controls {
                    header.msg_hdr.msg_control = controls[index].as_mut_ptr().cast();
                    header.msg_hdr.msg_controllen = CONTROL_LEN;
                }
                header
            })
            .collect();
        Self { headers, names, _parts: parts, _buffers: buffers, controls }
    }

    /// Receives up to as many as there are heads.
    fn receive(&mut self, socket: i32) -> usize {
        if self.controls.is_some() {
            for header in &mut self.headers {
                header.msg_hdr.msg_controllen = CONTROL_LEN;
            }
        }
        if let [header] = &mut self.headers[..] {
            // SAFETY: as below, for a single head.
            let len = unsafe { libc::recvmsg(socket, &raw mut header.msg_hdr, libc::MSG_DONTWAIT) };
            return usize::from(len >= 0);
        }
        // SAFETY: each head points to a buffer, a name and control octets that `self` owns, of the
        // lengths it says; none of them moves, because they are boxed.
        let count = unsafe {
            let timeout = std::ptr::null_mut();
            let len = self.headers.len() as u32;
            libc::recvmmsg(socket, self.headers.as_mut_ptr(), len, libc::MSG_DONTWAIT, timeout)
        };
        usize::try_from(count).unwrap_or(0)
    }
}

fn zeroed_header() -> libc::mmsghdr {
    // SAFETY: a plain C struct whose fields are numbers and pointers; all zero is a value of it.
    unsafe { mem::zeroed() }
}

fn zeroed_name() -> libc::sockaddr_in {
    // SAFETY: a plain C struct of numbers.
    unsafe { mem::zeroed() }
}

struct OwnSockets {
    inbox: Inbox,
    watch: Option<Watch>,
    sending: Sending,
}

enum Sending {
    To,
    Connected,
    /// `sendmmsg` of a single message, the address in the head.
    Many(Outbox),
}

pub fn epoll(world: &World) -> Result<Box<dyn Way>> {
    let sending = Sending::Many(Outbox::new(world, 1));
    Ok(Box::new(OwnSockets {
        inbox: Inbox::new(4, true, false),
        watch: Some(Watch::new(world, rustix_epoll::EventFlags::IN)?),
        sending,
    }))
}

pub fn at_tick(_world: &World) -> Result<Box<dyn Way>> {
    let inbox = Inbox::new(4, true, false);
    Ok(Box::new(OwnSockets { inbox, watch: None, sending: Sending::To }))
}

pub fn at_tick_connected(_world: &World) -> Result<Box<dyn Way>> {
    let inbox = Inbox::new(2, false, false);
    Ok(Box::new(OwnSockets { inbox, watch: None, sending: Sending::Connected }))
}

pub fn at_tick_connected_stamped(_world: &World) -> Result<Box<dyn Way>> {
    let inbox = Inbox::new(1, false, true);
    Ok(Box::new(OwnSockets { inbox, watch: None, sending: Sending::Connected }))
}

pub fn at_tick_stamped(_world: &World) -> Result<Box<dyn Way>> {
    let inbox = Inbox::new(4, true, true);
    Ok(Box::new(OwnSockets { inbox, watch: None, sending: Sending::To }))
}

impl Way for OwnSockets {
    fn take_in(&mut self, world: &World, slot: usize) -> io::Result<usize> {
        let mut count = 0;
        if let Some(watch) = &mut self.watch {
            while watch.wait()? {
                for call in watch.calls() {
                    count += self.inbox.receive(world.raw(call));
                }
            }
        } else {
            for call in world.calls(slot) {
                loop {
                    let received = self.inbox.receive(world.raw(call));
                    count += received;
                    // A batch that is not full has found the socket empty.
                    if received < self.inbox.headers.len() {
                        break;
                    }
                }
            }
        }
        Ok(count)
    }

    fn send(&mut self, world: &World, slot: usize) -> io::Result<()> {
        for call in world.calls(slot) {
            let socket = &world.near[call];
            match &mut self.sending {
                Sending::To => {
                    let to = &world.far_addresses[call];
                    sendto(socket, &DATAGRAM, SendFlags::NOSIGNAL, to)?;
                }
                Sending::Connected => {
                    send(socket, &DATAGRAM, SendFlags::NOSIGNAL)?;
                }
                Sending::Many(outbox) => outbox.send(world.raw(call), &[call])?,
            }
        }
        Ok(())
    }
}

/// Message heads for sending.
struct Outbox {
    headers: Vec<libc::mmsghdr>,
    names: Box<[libc::sockaddr_in]>,
    _part: Box<libc::iovec>,
}

impl Outbox {
    fn new(world: &World, len: usize) -> Self {
        let mut part = Box::new(libc::iovec {
            iov_base: DATAGRAM.as_ptr().cast_mut().cast(),
            iov_len: DATAGRAM.len(),
        });
        let mut header = zeroed_header();
        header.msg_hdr.msg_iov = &raw mut *part;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        let names = world.far_addresses.iter().map(|address| raw_name(*address)).collect();
        Self { headers: vec![header; len], names, _part: part }
    }

    fn send(&mut self, socket: i32, calls: &[usize]) -> io::Result<()> {
        for (header, call) in self.headers.iter_mut().zip(calls) {
            header.msg_hdr.msg_name = (&raw mut self.names[*call]).cast();
        }
        // SAFETY: as many heads as `calls` were set; what they point to is owned and boxed, and
        // the datagram is static and only read.
        let count = unsafe {
            let len = calls.len().min(self.headers.len()) as u32;
            libc::sendmmsg(socket, self.headers.as_mut_ptr(), len, libc::MSG_NOSIGNAL)
        };
        if count == calls.len() as i32 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn raw_name(address: SocketAddrV4) -> libc::sockaddr_in {
    let mut name = zeroed_name();
    name.sin_family = libc::AF_INET as u16;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = u32::from(*address.ip()).to_be();
    name
}

/// Sockets for many calls, told apart by where packets come from.
struct Shared {
    inbox: Inbox,
    outbox: Outbox,
    calls: HashMap<(u32, u16), usize>,
}

pub fn shared(world: &World) -> Result<Box<dyn Way>> {
    let key = |address: &SocketAddrV4| (u32::from(*address.ip()).to_be(), address.port().to_be());
    let addresses = world.far_addresses.iter().enumerate();
    Ok(Box::new(Shared {
        inbox: Inbox::new(BATCH, true, false),
        outbox: Outbox::new(world, BATCH),
        calls: addresses.map(|(call, address)| (key(address), call)).collect(),
    }))
}

impl Way for Shared {
    fn take_in(&mut self, world: &World, _slot: usize) -> io::Result<usize> {
        let mut known = 0;
        for socket in 0..world.near.len() {
            let mut count = BATCH;
            while count == BATCH {
                count = self.inbox.receive(world.raw(socket));
                let names = &self.inbox.names[..count];
                known += names
                    .iter()
                    .filter(|name| self.calls.contains_key(&(name.sin_addr.s_addr, name.sin_port)))
                    .count();
            }
        }
        Ok(known)
    }

    fn send(&mut self, world: &World, slot: usize) -> io::Result<()> {
        for socket in 0..world.near.len() {
            let sharers = world.calls(slot).filter(|call| call % world.near.len() == socket);
            let calls: Vec<usize> = sharers.collect();
            for batch in calls.chunks(BATCH) {
                self.outbox.send(world.raw(socket), batch)?;
            }
        }
        Ok(())
    }
}
