//! Many packets a system call, and the kernel's time of arrival.

use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use _media::g711::FRAME_SAMPLES;

const HEADER_LEN: usize = 12;
const BATCH: usize = 128;
/// Only headers are looked at. The rest is left where the engine's processor has written it: to
/// fetch it would cost both, and a far end is another machine.
const BUFFER_LEN: usize = 16;
/// Room for one control message with a `timespec`.
const CONTROL_LEN: usize = 64;
const PCMA: u8 = 8;

/// Asks the kernel to say when each datagram of a socket came.
pub fn stamp(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, whose address and size are given.
    let done = unsafe {
        let (value, len) = ((&raw const on).cast(), size_of_val(&on) as u32);
        let socket = socket.as_raw_fd();
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, value, len)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A packet as far as it matters here.
pub struct Packet {
    pub port: u16,
    pub sequence: u16,
    pub timestamp: u32,
    /// When it came, by the kernel's clock.
    pub arrival_ns: Option<i64>,
}

/// Message heads with all they point to, for receiving.
pub struct Inbox {
    heads: Vec<libc::mmsghdr>,
    names: Box<[libc::sockaddr_in]>,
    _parts: Box<[libc::iovec]>,
    buffers: Box<[[u8; BUFFER_LEN]]>,
    controls: Box<[[u64; CONTROL_LEN / 8]]>,
}

impl Inbox {
    pub fn new() -> Self {
        let mut buffers = vec![[0; BUFFER_LEN]; BATCH].into_boxed_slice();
        let mut controls = vec![[0; CONTROL_LEN / 8]; BATCH].into_boxed_slice();
        let mut names = vec![zeroed_name(); BATCH].into_boxed_slice();
        let mut parts: Box<[libc::iovec]> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_LEN })
            .collect();
        let heads = (0..BATCH).map(|index| {
            let mut head = zeroed_head();
            head.msg_hdr.msg_iov = &raw mut parts[index];
            head.msg_hdr.msg_iovlen = 1;
            head.msg_hdr.msg_name = (&raw mut names[index]).cast();
            head.msg_hdr.msg_control = controls[index].as_mut_ptr().cast();
            head
        });
        Self { heads: heads.collect(), names, _parts: parts, buffers, controls }
    }

    /// Reads all there is.
    pub fn drain(&mut self, socket: &OwnedFd, mut take: impl FnMut(&Packet)) {
        loop {
            for head in &mut self.heads {
                head.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                head.msg_hdr.msg_controllen = CONTROL_LEN;
            }
            // SAFETY: each head points to a buffer, a name and control octets that `self` owns, of
            // the lengths it says; none of them moves, because they are boxed.
            let count = unsafe {
                let (heads, timeout) = (self.heads.as_mut_ptr(), std::ptr::null_mut());
                let (socket, len) = (socket.as_raw_fd(), BATCH as u32);
                libc::recvmmsg(socket, heads, len, libc::MSG_DONTWAIT, timeout)
            };
            let count = usize::try_from(count).unwrap_or(0);
            for index in 0..count {
                take(&self.packet(index));
            }
            if count < BATCH {
                return;
            }
        }
    }

    fn packet(&self, index: usize) -> Packet {
        let buffer = &self.buffers[index];
        let word = |at: usize| u16::from_be_bytes([buffer[at], buffer[at + 1]]);
        Packet {
            port: u16::from_be(self.names[index].sin_port),
            sequence: word(2),
            timestamp: u32::from(word(4)) << 16 | u32::from(word(6)),
            arrival_ns: self.arrival_ns(index),
        }
    }

    /// Control messages begin with two words, length and kind; a `timespec` follows.
    fn arrival_ns(&self, index: usize) -> Option<i64> {
        const TIMESTAMP: u64 = (libc::SCM_TIMESTAMPNS as u64) << 32 | libc::SOL_SOCKET as u64;
        let [_len, kind, seconds, nanoseconds, ..] = self.controls[index];
        let is_there = self.heads[index].msg_hdr.msg_controllen >= 32 && kind == TIMESTAMP;
        let nanoseconds = seconds.cast_signed() * 1_000_000_000 + nanoseconds.cast_signed();
        is_there.then_some(nanoseconds)
    }
}

/// Message heads of all calls, each with an RTP header of its own and the same voice.
pub struct Outbox {
    heads: Vec<libc::mmsghdr>,
    headers: Box<[[u8; HEADER_LEN]]>,
    voice: Box<[u8; FRAME_SAMPLES]>,
    _names: Box<[libc::sockaddr_in]>,
    _parts: Box<[[libc::iovec; 2]]>,
}

impl Outbox {
    pub fn new(ports: &[u16]) -> Self {
        let mut names: Box<[libc::sockaddr_in]> = ports.iter().map(|port| name(*port)).collect();
        let mut voice = Box::new([0; FRAME_SAMPLES]);
        let mut headers = vec![[0; HEADER_LEN]; ports.len()].into_boxed_slice();
        for (call, header) in headers.iter_mut().enumerate() {
            header[..2].copy_from_slice(&[0x80, PCMA]);
            header[8..].copy_from_slice(&(call as u32 + 1).to_be_bytes());
        }
        let parts = headers.iter_mut().map(|header| {
            [
                libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER_LEN },
                libc::iovec { iov_base: voice.as_mut_ptr().cast(), iov_len: FRAME_SAMPLES },
            ]
        });
        let mut parts: Box<[[libc::iovec; 2]]> = parts.collect();
        let heads = names.iter_mut().zip(&mut parts).map(|(name, parts)| {
            let mut head = zeroed_head();
            head.msg_hdr.msg_name = (&raw mut *name).cast();
            head.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            head.msg_hdr.msg_iov = parts.as_mut_ptr();
            head.msg_hdr.msg_iovlen = parts.len();
            head
        });
        Self { heads: heads.collect(), headers, voice, _names: names, _parts: parts }
    }

    /// Sends 20 ms on some calls; returns how many packets left.
    pub fn send(
        &mut self,
        socket: &OwnedFd,
        calls: Range<usize>,
        round: u64,
        voice: &[u8; FRAME_SAMPLES],
    ) -> u64 {
        *self.voice = *voice;
        let sequence = (round as u16).to_be_bytes();
        let timestamp = (round as u32).wrapping_mul(FRAME_SAMPLES as u32).to_be_bytes();
        for header in &mut self.headers[calls.clone()] {
            header[2..4].copy_from_slice(&sequence);
            header[4..8].copy_from_slice(&timestamp);
        }
        let heads = &mut self.heads[calls];
        // SAFETY: what the heads point to is owned by `self` and boxed, and only read.
        let count = unsafe {
            let (first, len) = (heads.as_mut_ptr(), heads.len() as u32);
            libc::sendmmsg(socket.as_raw_fd(), first, len, libc::MSG_NOSIGNAL)
        };
        u64::try_from(count).unwrap_or(0)
    }
}

fn zeroed_head() -> libc::mmsghdr {
    // SAFETY: a plain C struct whose fields are numbers and pointers; all zero is a value of it.
    unsafe { mem::zeroed() }
}

fn zeroed_name() -> libc::sockaddr_in {
    // SAFETY: a plain C struct of numbers.
    unsafe { mem::zeroed() }
}

fn name(port: u16) -> libc::sockaddr_in {
    let mut name = zeroed_name();
    name.sin_family = libc::AF_INET as u16;
    name.sin_port = port.to_be();
    name.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
    name
}
