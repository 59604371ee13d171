//! UDP sockets and the numbers they are bound to.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind, connect,
    connect_unspec, ipproto, recv, recvfrom, send, sendto, socket_with, sockopt,
};

use crate::clock::Now;

/// DSCP EF, RFC 3246: the class of voice, shifted over the ECN bits.
const EXPEDITED_FORWARDING: u8 = 46 << 2;

/// How packets leave: what is lost is lost, and nobody waits.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// A bound, non-blocking UDP socket. It can be tied to the one address it hears and sends to,
/// which spares the kernel the look-up of a route for every packet.
#[derive(Debug)]
pub struct RtpSocket {
    fd: OwnedFd,
    port: u16,
    /// Bound to loopback: only then may it send there.
    is_local: bool,
    tied_to: Option<SocketAddr>,
    /// What had come before it was tied has been read: from now on the source need not be asked.
    hears_one: bool,
}

impl RtpSocket {
    /// Binds a port of a local address.
    ///
    /// # Errors
    /// When the port is in use or the address is not ours.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
        // A mark that some systems forbid; voice goes without it as well.
        let _marked = if local.is_ipv4() {
            sockopt::set_ip_tos(&fd, EXPEDITED_FORWARDING)
        } else {
            sockopt::set_ipv6_tclass(&fd, EXPEDITED_FORWARDING.into())
        };
        bind(&fd, &local)?;
        let is_local = local.ip().is_loopback();
        Ok(Self { fd, port: local.port(), is_local, tied_to: None, hears_one: false })
    }

    /// The local port number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The only address it hears; None when it hears everybody.
    #[must_use]
    pub fn tied_to(&self) -> Option<SocketAddr> {
        self.tied_to
    }

    /// Ties it to an address, or lets it hear everybody again.
    pub fn tie(&mut self, to: Option<SocketAddr>) {
        let tied = match to {
            Some(to) => connect(&self.fd, &to),
            None => connect_unspec(&self.fd),
        };
        // A route may be missing. A socket that is not tied can do all that a tied one can.
        self.tied_to = to.filter(|_| tied.is_ok());
        self.hears_one = false;
    }

    /// Receives one datagram; its length may exceed the buffer.
    ///
    /// # Errors
    /// `WouldBlock` when there is none. What ICMP has told of the far end of a tied socket is passed
    /// over, once: whoever looks every 20 ms would else find that each time, and never a datagram.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = match self.read(buffer) {
            Err(Errno::AGAIN) => {
                self.hears_one = self.tied_to.is_some();
                Err(Errno::AGAIN)
            }
            Err(_told) => self.read(buffer),
            read => read,
        };
        Ok(received?)
    }

    fn read(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Errno> {
        if let Some(source) = self.tied_to.filter(|_| self.hears_one) {
            let (_, len) = recv(&self.fd, buffer, RecvFlags::TRUNC)?;
            return Ok((len, source));
        }
        let (_, len, from) = recvfrom(&self.fd, buffer, RecvFlags::TRUNC)?;
        let from = from.and_then(|from: SocketAddrAny| SocketAddr::try_from(from).ok());
        Ok((len, from.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0))))
    }

    /// Whether a far end may be there. A description from outside that names loopback, or no
    /// address at all, which means the same to the kernel, would have us send what others say to
    /// services of our own machine that trust it.
    fn may_reach(&self, ip: IpAddr) -> bool {
        self.is_local || !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// Whatever the kernel says, or that no far end may be there; the datagram is lost then.
    pub fn send(&mut self, datagram: &[u8], to: &SocketAddr) -> io::Result<()> {
        if self.tied_to == Some(*to) {
            if send(&self.fd, datagram, SEND).is_ok() {
                return Ok(());
            }
            // It may only be that an earlier packet was refused by a far end that has gone.
            self.tie(None);
        }
        if !self.may_reach(to.ip().to_canonical()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        sendto(&self.fd, datagram, SEND, to)?;
        Ok(())
    }
}

impl AsFd for RtpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The sockets of a port: RTP on an even number, RTCP on the odd one that follows.
#[derive(Debug)]
pub struct PortSockets {
    /// RTP, and whatever else shares its number.
    pub media: RtpSocket,
    /// RTCP.
    pub reports: RtpSocket,
}

impl PortSockets {
    /// Binds both.
    ///
    /// # Errors
    /// When either number is in use or the address is not ours.
    pub fn bind(local: IpAddr, number: u16) -> io::Result<Self> {
        let media = RtpSocket::bind(SocketAddr::new(local, number))?;
        // An even number is never the last one.
        let reports = RtpSocket::bind(SocketAddr::new(local, number | 1))?;
        Ok(Self { media, reports })
    }
}

/// The even port numbers of a range, each with the odd number of its RTCP beside it.
#[derive(Debug)]
pub struct PortNumbers {
    free: VecDeque<u16>,
    resting: VecDeque<(Now, u16)>,
    quarantine: Duration,
}

impl PortNumbers {
    /// The even numbers from `first` to `last`, both included.
    #[must_use]
    pub fn new(first: u16, last: u16, quarantine: Duration) -> Self {
        let free = (first..=last).filter(|number| number % 2 == 0 && *number != 0).collect();
        Self { free, resting: VecDeque::new(), quarantine }
    }

    /// Takes the number that was free for longest.
    pub fn take(&mut self, now: Now) -> Option<u16> {
        while let Some((until, number)) = self.resting.front().copied()
            && until <= now
        {
            self.resting.pop_front();
            self.free.push_back(number);
        }
        self.free.pop_front()
    }

    /// Gives back a number that was used: late packets of its call must not reach the next one.
    pub fn rest(&mut self, number: u16, now: Now) {
        self.resting.push_back((now + self.quarantine, number));
    }

    /// Gives back a number that another program holds.
    pub fn give_back(&mut self, number: u16) {
        self.free.push_back(number);
    }

    /// How many could be tried now.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_even_numbers_are_given_and_used_ones_rest() {
        let mut numbers = PortNumbers::new(10_001, 10_004, Duration::from_secs(2));
        let start = Duration::from_secs(100);
        assert_eq!(numbers.take(start), Some(10_002));
        assert_eq!(numbers.take(start), Some(10_004));
        assert_eq!(numbers.take(start), None);
        numbers.rest(10_004, start);
        assert_eq!(numbers.take(start + Duration::from_secs(1)), None);
        assert_eq!(numbers.take(start + Duration::from_secs(2)), Some(10_004));
    }

    /// A socket, unless the system is without IPv6.
    fn bound(ip: IpAddr) -> Option<(RtpSocket, SocketAddr)> {
        let socket = (0..200)
            .find_map(|step| RtpSocket::bind(SocketAddr::new(ip, 42_000 + step * 2)).ok())?;
        let own = SocketAddr::new(ip, socket.port());
        Some((socket, own))
    }

    #[test]
    fn a_tied_socket_hears_one_and_is_freed_when_refused() {
        let mut buffer = [0; 16];
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let [Some((mut socket, own)), Some((mut far, address)), Some((mut other, _))] =
                [bound(ip), bound(ip), bound(ip)]
            else {
                continue;
            };
            socket.tie(Some(address));
            assert_eq!(socket.tied_to(), Some(address));
            far.send(b"voice", &own).unwrap();
            other.send(b"stray", &own).unwrap();
            assert_eq!(socket.receive(&mut buffer).unwrap(), (5, address));
            assert!(socket.receive(&mut buffer).is_err());
            socket.send(b"voice", &address).unwrap();
            assert_eq!(far.receive(&mut buffer).unwrap(), (5, own));
            // The far end goes: the first packet is refused, the second one learns of it.
            drop(far);
            socket.send(b"voice", &address).unwrap();
            socket.send(b"voice", &address).unwrap();
            assert_eq!(socket.tied_to(), None);
            other.send(b"now heard", &own).unwrap();
            assert_eq!(socket.receive(&mut buffer).unwrap().0, 9);
        }
    }

    #[test]
    fn what_came_before_it_was_tied_keeps_its_source() {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let (mut socket, own) = bound(ip).unwrap();
        let [(mut far, address), (mut other, stray)] = [bound(ip).unwrap(), bound(ip).unwrap()];
        let mut buffer = [0; 16];
        for _ in 0..2 {
            other.send(b"stray", &own).unwrap();
            socket.tie(Some(address));
            far.send(b"voice", &own).unwrap();
            assert_eq!(socket.receive(&mut buffer).unwrap(), (5, stray));
            assert_eq!(socket.receive(&mut buffer).unwrap(), (5, address));
            assert!(socket.receive(&mut buffer).is_err());
            far.send(b"voices", &own).unwrap();
            assert_eq!(socket.receive(&mut buffer).unwrap(), (6, address));
            socket.tie(None);
        }
    }

    #[test]
    fn what_has_come_is_read_although_the_far_end_refuses() {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let (mut socket, own) = bound(ip).unwrap();
        let (mut far, address) = bound(ip).unwrap();
        socket.tie(Some(address));
        far.send(b"voice", &own).unwrap();
        drop(far);
        socket.send(b"voice", &address).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.receive(&mut buffer).unwrap(), (5, address));
        assert_eq!(socket.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn from_outside_nobody_has_us_send_to_loopback() {
        let Some((mut far, address)) = bound(IpAddr::from([127, 0, 0, 1])) else { return };
        let Some((mut socket, _)) = bound(IpAddr::from([0, 0, 0, 0])) else { return };
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let places = [address.ip(), mapped, [0, 0, 0, 0].into(), [224, 0, 0, 1].into()];
        for ip in places {
            let refused = socket.send(b"inject", &SocketAddr::new(ip, address.port()));
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{ip}");
        }
        assert!(far.receive(&mut [0; 16]).is_err());
        assert!(far.send(b"own", &address).is_ok(), "from loopback it may");
    }

    #[test]
    fn datagrams_pass_in_both_families() {
        for ip in ["127.0.0.1", "::1"] {
            let Some((mut socket, own)) = bound(ip.parse().unwrap()) else { continue };
            socket.send(b"voice", &own).unwrap();
            let mut buffer = [0; 16];
            assert_eq!(socket.receive(&mut buffer).unwrap(), (5, own));
            assert_eq!(&buffer[..5], b"voice");
            let empty = socket.receive(&mut buffer).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
