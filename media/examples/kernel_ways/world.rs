//! The sockets of both ends, and what the far ends do.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, getsockname,
    ipproto, recvfrom, sendto, socket_with, sockopt,
};

/// Slots of the wheel.
pub const SLOTS: usize = 10;

/// G.711 of 20 ms with its RTP header.
pub const DATAGRAM: [u8; 172] = [0x80; 172];

/// Room for a received datagram.
pub const BUFFER_LEN: usize = 1500;

const SMALL_BUFFER_LEN: usize = 16 * 1024;
/// Calls that share a socket: more in one slot would not fit into its default buffer.
const SHARERS: usize = 500;
const BUSY_POLL_US: i32 = 50;

/// What is done to our sockets before they are used.
#[derive(Clone, Copy, Default)]
pub struct Opened {
    connected: bool,
    shared: bool,
    stamped: bool,
    two: bool,
    busy_poll: bool,
    small_buffer: bool,
}

impl Opened {
    const NEITHER: Self = Self {
        connected: false,
        shared: false,
        stamped: false,
        two: false,
        busy_poll: false,
        small_buffer: false,
    };
    /// A bound socket each.
    pub const PLAIN: Self = Self::NEITHER;
    /// A socket each, connected to its far end.
    pub const CONNECTED: Self = Self { connected: true, ..Self::NEITHER };
    /// A socket for many.
    pub const SHARED: Self = Self { shared: true, ..Self::NEITHER };
    /// With the kernel's receive time beside each datagram.
    pub const STAMPED: Self = Self { stamped: true, ..Self::NEITHER };
    /// Both of these.
    pub const STAMPED_CONNECTED: Self = Self { stamped: true, ..Self::CONNECTED };
    /// A connected socket each, and a second one on the same number that hears all others.
    pub const TWO: Self = Self { connected: true, two: true, ..Self::NEITHER };
    /// Asking the kernel to poll the device.
    pub const BUSY_POLL: Self = Self { busy_poll: true, ..Self::NEITHER };
    /// With room for fewer packets.
    pub const SMALL_BUFFER: Self = Self { small_buffer: true, ..Self::NEITHER };
}

/// Both ends of all calls.
pub struct World {
    /// Ours, fewer than calls when they are shared.
    pub near: Vec<OwnedFd>,
    /// The far ends' addresses, by call.
    pub far_addresses: Vec<SocketAddrV4>,
    _listeners: Vec<OwnedFd>,
    far: Vec<OwnedFd>,
    near_addresses: Vec<SocketAddrV4>,
}

impl World {
    /// Opens the sockets of `calls` calls.
    pub fn open(calls: usize, opened: Opened) -> io::Result<Self> {
        let near = (0..if opened.shared { calls.div_ceil(SHARERS) } else { calls })
            .map(|_| open_near(opened))
            .collect::<io::Result<Vec<_>>>()?;
        let far = (0..calls).map(|_| bound(0, false)).collect::<io::Result<Vec<_>>>()?;
        let near_addresses = near.iter().map(address).collect::<io::Result<Vec<_>>>()?;
        let far_addresses = far.iter().map(address).collect::<io::Result<Vec<_>>>()?;
        let mut listeners = Vec::new();
        for (socket, (near, far)) in near.iter().zip(near_addresses.iter().zip(&far_addresses)) {
            if opened.connected {
                connect(socket, far)?;
            }
            if opened.two {
                listeners.push(bound(near.port(), true)?);
            }
        }
        Ok(Self { near, far_addresses, _listeners: listeners, far, near_addresses })
    }

    /// Calls of a slot.
    pub fn calls(&self, slot: usize) -> impl Iterator<Item = usize> + use<> {
        (slot..self.far.len()).step_by(SLOTS)
    }

    /// A descriptor of ours as the raw calls want it.
    pub fn raw(&self, call: usize) -> i32 {
        self.near[call % self.near.len()].as_raw_fd()
    }

    /// The far ends of a slot send.
    pub fn far_send(&self, slot: usize) -> io::Result<()> {
        for call in self.calls(slot) {
            let to = &self.near_addresses[call % self.near_addresses.len()];
            sendto(&self.far[call], &DATAGRAM, SendFlags::NOSIGNAL, to)?;
        }
        Ok(())
    }

    /// The far ends of a slot receive what was just sent to them.
    pub fn far_receive(&self, slot: usize) -> io::Result<()> {
        let mut buffer = [0; BUFFER_LEN];
        for call in self.calls(slot) {
            recvfrom(&self.far[call], &mut buffer, RecvFlags::empty())?;
        }
        Ok(())
    }
}

fn open_near(opened: Opened) -> io::Result<OwnedFd> {
    let socket = bound(0, opened.two)?;
    if opened.small_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, SMALL_BUFFER_LEN)?;
    }
    if opened.stamped {
        set_option(&socket, libc::SO_TIMESTAMPNS, 1)?;
    }
    if opened.busy_poll {
        set_option(&socket, libc::SO_BUSY_POLL, BUSY_POLL_US)?;
    }
    Ok(socket)
}

fn bound(port: u16, again: bool) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if again {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

fn address(socket: &OwnedFd) -> io::Result<SocketAddrV4> {
    let address = getsockname(socket)?.try_into()?;
    Ok(address)
}

fn set_option(socket: &OwnedFd, option: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` octets of `value`, which lives through the call.
    let result = unsafe {
        let value: *const i32 = &raw const value;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
