//! io_uring: a slot's receptions, then its sendings, each with one system call.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::net::SocketAddrV4;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::world::{BUFFER_LEN, DATAGRAM, World};
use crate::{Result, Way};

const MIN_ENTRIES: u32 = 64;
const COMPLETIONS: u32 = 32_768;
const BUFFERS: u16 = 4096;
const PAGE: usize = 4096;
const GROUP: u16 = 0;

struct Ring {
    ring: IoUring,
    entries: Vec<squeue::Entry>,
}

impl Ring {
    /// A ring with our sockets registered.
    fn new(world: &World) -> io::Result<Self> {
        let largest = world.calls(0).count() as u32;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(largest.next_power_of_two().max(MIN_ENTRIES))?;
        let sockets: Vec<i32> = (0..world.near.len()).map(|call| world.raw(call)).collect();
        ring.submitter().register_files(&sockets)?;
        Ok(Self { ring, entries: Vec::new() })
    }

    /// Submits what was gathered and waits for all of it.
    fn run(&mut self) -> io::Result<()> {
        let count = self.entries.len();
        // SAFETY: what the entries point to is owned by the way, is not moved, and outlives this
        // call, which returns only when all of them are completed.
        unsafe { self.ring.submission().push_multiple(&self.entries) }
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.entries.clear();
        self.ring.submit_and_wait(count)?;
        Ok(())
    }
}

/// One reception and one sending a port at its tick.
struct AtTick {
    ring: Ring,
    buffers: Box<[[u8; BUFFER_LEN]]>,
    /// Heads of unconnected sockets.
    heads: Option<Heads>,
}

struct Heads {
    receive: Box<[libc::msghdr]>,
    send: Box<[libc::msghdr]>,
    _names: Box<[libc::sockaddr_in]>,
    _parts: Box<[libc::iovec]>,
}

pub fn at_tick(world: &World) -> Result<Box<dyn Way>> {
    let mut buffers = buffers(world);
    let heads = Some(Heads::new(world, &mut buffers));
    Ok(Box::new(AtTick { ring: Ring::new(world)?, buffers, heads }))
}

pub fn at_tick_connected(world: &World) -> Result<Box<dyn Way>> {
    Ok(Box::new(AtTick { ring: Ring::new(world)?, buffers: buffers(world), heads: None }))
}

/// As many as a slot has calls.
fn buffers(world: &World) -> Box<[[u8; BUFFER_LEN]]> {
    vec![[0; BUFFER_LEN]; world.calls(0).count()].into_boxed_slice()
}

impl Heads {
    fn new(world: &World, buffers: &mut [[u8; BUFFER_LEN]]) -> Self {
        let calls = world.far_addresses.len();
        // Names and parts: first those received into, then those sent.
        let far = world.far_addresses.iter().map(|address| raw_name(*address));
        let mut names: Box<[_]> = far.clone().chain(far).collect();
        let received = (0..calls).map(|call| libc::iovec {
            iov_base: buffers[call / crate::SLOTS].as_mut_ptr().cast(),
            iov_len: BUFFER_LEN,
        });
        let sent =
            libc::iovec { iov_base: DATAGRAM.as_ptr().cast_mut().cast(), iov_len: DATAGRAM.len() };
        let mut parts: Box<[_]> = received.chain([sent]).collect();
        let mut head = |name: usize, part: usize| {
            // SAFETY: a plain C struct of numbers and pointers.
            let mut head: libc::msghdr = unsafe { std::mem::zeroed() };
            head.msg_name = (&raw mut names[name]).cast();
            head.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            head.msg_iov = &raw mut parts[part];
            head.msg_iovlen = 1;
            head
        };
        let receive = (0..calls).map(|call| head(call, call)).collect();
        let send = (0..calls).map(|call| head(calls + call, calls)).collect();
        Self { receive, send, _names: names, _parts: parts }
    }
}

fn raw_name(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: a plain C struct of numbers.
    let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    name.sin_family = libc::AF_INET as u16;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = u32::from(*address.ip()).to_be();
    name
}

impl Way for AtTick {
    fn take_in(&mut self, world: &World, slot: usize) -> io::Result<usize> {
        for (index, call) in world.calls(slot).enumerate() {
            let socket = Fixed(call as u32);
            let entry = if let Some(heads) = &mut self.heads {
                opcode::RecvMsg::new(socket, &raw mut heads.receive[call])
                    .flags(libc::MSG_DONTWAIT as u32)
                    .build()
            } else {
                opcode::Recv::new(socket, self.buffers[index].as_mut_ptr(), BUFFER_LEN as u32)
                    .flags(libc::MSG_DONTWAIT)
                    .build()
            };
            self.ring.entries.push(entry);
        }
        self.ring.run()?;
        Ok(self.ring.ring.completion().filter(|completed| completed.result() > 0).count())
    }

    fn send(&mut self, world: &World, slot: usize) -> io::Result<()> {
        for call in world.calls(slot) {
            let socket = Fixed(call as u32);
            let entry = match &self.heads {
                Some(heads) => opcode::SendMsg::new(socket, &raw const heads.send[call]).build(),
                None => sending(socket),
            };
            self.ring.entries.push(entry);
        }
        self.ring.run()?;
        sent_all(&mut self.ring.ring)
    }
}

fn sending(socket: Fixed) -> squeue::Entry {
    let (octets, len) = (DATAGRAM.as_ptr(), DATAGRAM.len() as u32);
    opcode::Send::new(socket, octets, len).flags(libc::MSG_NOSIGNAL).build()
}

fn sent_all(ring: &mut IoUring) -> io::Result<()> {
    let failed = ring.completion().filter(|completed| completed.result() < 0).last();
    failed.map_or(Ok(()), |failed| Err(io::Error::from_raw_os_error(-failed.result())))
}

/// Receptions that stay; the kernel takes buffers from a ring and posts a completion a datagram.
struct Multishot {
    ring: Ring,
    buffers: Box<[[u8; BUFFER_LEN]]>,
    offered: BufferRing,
    /// Receptions completed while sendings were awaited.
    received: usize,
}

/// `user_data` of a reception.
const RECEPTION: u64 = 1;

pub fn multishot(world: &World) -> Result<Box<dyn Way>> {
    let mut ring = Ring::new(world)?;
    let mut buffers = vec![[0; BUFFER_LEN]; BUFFERS.into()].into_boxed_slice();
    let mut offered = BufferRing::new();
    // SAFETY: page-aligned memory of `BUFFERS` entries; the ring is dropped before it.
    unsafe {
        let base = offered.base.as_ptr() as u64;
        ring.ring.submitter().register_buf_ring_with_flags(base, BUFFERS, GROUP, 0)?;
    }
    for index in 0..BUFFERS {
        offered.offer(index, &mut buffers[usize::from(index)]);
    }
    for call in 0..world.near.len() {
        let entry = opcode::RecvMulti::new(Fixed(call as u32), GROUP).build();
        let entry = entry.user_data(RECEPTION);
        // SAFETY: the entry points to nothing of ours but the group of buffers.
        while unsafe { ring.ring.submission().push(&entry) }.is_err() {
            ring.ring.submit()?;
        }
    }
    ring.ring.submit()?;
    Ok(Box::new(Multishot { ring, buffers, offered, received: 0 }))
}

impl Multishot {
    /// Takes completions; gives used buffers back.
    fn complete(&mut self) -> io::Result<()> {
        for completed in self.ring.ring.completion() {
            if completed.result() < 0 {
                return Err(io::Error::from_raw_os_error(-completed.result()));
            }
            if completed.user_data() == RECEPTION {
                self.received += 1;
                if let Some(index) = cqueue::buffer_select(completed.flags()) {
                    self.offered.offer(index, &mut self.buffers[usize::from(index)]);
                }
            }
        }
        Ok(())
    }
}

impl Way for Multishot {
    fn take_in(&mut self, _world: &World, _slot: usize) -> io::Result<usize> {
        // Runs the task work that arrivals have queued.
        self.ring.ring.submit_and_wait(0)?;
        self.complete()?;
        Ok(std::mem::take(&mut self.received))
    }

    fn send(&mut self, world: &World, slot: usize) -> io::Result<()> {
        for call in world.calls(slot) {
            self.ring.entries.push(sending(Fixed(call as u32)));
        }
        self.ring.run()?;
        self.complete()
    }
}

/// The ring through which buffers are offered to the kernel.
struct BufferRing {
    base: NonNull<BufRingEntry>,
    tail: u16,
}

impl BufferRing {
    const LAYOUT: Layout =
        match Layout::from_size_align(size_of::<BufRingEntry>() * BUFFERS as usize, PAGE) {
            Ok(layout) => layout,
            Err(_) => unreachable!(),
        };

    fn new() -> Self {
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(Self::LAYOUT) };
        let base = NonNull::new(base.cast()).expect("64 KiB");
        Self { base, tail: 0 }
    }

    fn offer(&mut self, index: u16, buffer: &mut [u8; BUFFER_LEN]) {
        let at = usize::from(self.tail % BUFFERS);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `at` is within the ring; the kernel reads an entry only once the tail is past it,
        // and the tail lies where the crate says, aligned for 16 bits.
        unsafe {
            let entry = self.base.as_ptr().add(at);
            (*entry).set_addr(buffer.as_mut_ptr() as u64);
            (*entry).set_len(BUFFER_LEN as u32);
            (*entry).set_bid(index);
            let tail = BufRingEntry::tail(self.base.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed once.
        unsafe { dealloc(self.base.as_ptr().cast(), Self::LAYOUT) };
    }
}
