//! Packets that are due, collected from many ports and sent together.

use std::net::SocketAddr;
use std::ops::Range;

/// Room for one packet: 60 ms of the longest codec under an RTP header and what SRTP adds, and
/// within what an Ethernet frame carries.
pub const MAX_PACKET_LEN: usize = 1480;

/// Packets a port can have at one tick: 20 ms in packets of 10 ms, and a report.
pub const MAX_PACKETS_PER_TICK: usize = 3;

/// Which socket of its port a packet leaves through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// RTP, and RTCP that shares its port.
    Media,
    /// RTCP on a port of its own.
    Reports,
}

/// One packet of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Key of the port in the reactor.
    pub key: usize,
    /// The socket of that port.
    pub channel: Channel,
    /// Where it goes.
    pub to: SocketAddr,
    /// Whether it is due half a round after the tick that made it.
    pub waits: bool,
    octets: Range<usize>,
}

/// Room that is used again and again; nothing is allocated after the start.
#[derive(Debug)]
pub struct Outbox {
    octets: Box<[u8]>,
    packets: Vec<Outgoing>,
    capacity: usize,
    used: usize,
    key: usize,
    /// Room left behind each packet of the port.
    spare: usize,
    /// First packet of the port.
    first: usize,
}

impl Outbox {
    /// Room for one tick of as many ports.
    #[must_use]
    pub fn new(ports: usize) -> Self {
        let capacity = ports * MAX_PACKETS_PER_TICK;
        Self {
            octets: vec![0; capacity * MAX_PACKET_LEN].into(),
            packets: Vec::with_capacity(capacity),
            capacity,
            used: 0,
            key: 0,
            spare: 0,
            first: 0,
        }
    }

    /// Names the port whose packets follow, each with some room left to grow.
    pub fn begin(&mut self, key: usize, spare: usize) {
        self.key = key;
        self.spare = spare;
        self.first = self.packets.len();
    }

    /// Lets `rewrite` change address and octets of each packet of the port begun last. It is
    /// given the packet with its spare room and returns the new length, or takes the packet out.
    pub fn rewrite(
        &mut self,
        mut rewrite: impl FnMut(SocketAddr, &mut [u8], usize) -> Option<(SocketAddr, usize)>,
    ) {
        let mut kept = self.first;
        for index in self.first..self.packets.len() {
            let Outgoing { to, octets, .. } = &mut self.packets[index];
            let room = octets.start..octets.end + self.spare;
            if let Some((address, len)) = rewrite(*to, &mut self.octets[room], octets.len()) {
                *to = address;
                octets.end = octets.start + len;
                self.packets.swap(kept, index);
                kept += 1;
            }
        }
        self.packets.truncate(kept);
    }

    /// Lets `write` fill in a packet and say its length; false when there is no more room.
    pub fn push(
        &mut self,
        channel: Channel,
        to: SocketAddr,
        write: impl FnOnce(&mut [u8; MAX_PACKET_LEN]) -> usize,
    ) -> bool {
        if self.packets.len() >= self.capacity {
            return false;
        }
        let Some(room) = self.octets[self.used..].first_chunk_mut() else { return false };
        let end = self.used + write(room).min(MAX_PACKET_LEN - self.spare);
        let octets = self.used..end;
        self.packets.push(Outgoing { key: self.key, channel, to, waits: false, octets });
        self.used = end + self.spare;
        true
    }

    /// Lets the packet put in last wait for half a round.
    pub fn let_wait(&mut self) {
        if let Some(packet) = self.packets.last_mut() {
            packet.waits = true;
        }
    }

    /// All packets with their octets, in the order in which they were put in.
    pub fn packets(&self) -> impl Iterator<Item = (&Outgoing, &[u8])> {
        self.packets.iter().map(|packet| (packet, &self.octets[packet.octets.clone()]))
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.used = 0;
        self.first = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_as_they_went_in() {
        let to = SocketAddr::from(([127, 0, 0, 1], 4000));
        let mut outbox = Outbox::new(1);
        for round in 0..2u8 {
            outbox.begin(7, 0);
            for len in 1..=MAX_PACKETS_PER_TICK {
                assert!(outbox.push(Channel::Media, to, |out| {
                    out[..len].fill(round);
                    len
                }));
            }
            assert!(!outbox.push(Channel::Media, to, |_| unreachable!()));
            let lens: Vec<_> =
                outbox.packets().map(|(packet, octets)| (packet.key, octets.len())).collect();
            assert_eq!(lens, [(7, 1), (7, 2), (7, 3)]);
            assert!(outbox.packets().all(|(_, octets)| octets.iter().all(|o| *o == round)));
            outbox.clear();
        }
    }

    #[test]
    fn packets_of_one_port_grow_move_and_go() {
        let to = SocketAddr::from(([127, 0, 0, 1], 4000));
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 4002));
        let mut outbox = Outbox::new(2);
        outbox.begin(1, 0);
        outbox.push(Channel::Media, to, |_| 1);
        outbox.begin(2, 2);
        for octet in [5, 6, 7] {
            outbox.push(Channel::Media, to, |out| {
                out[..3].fill(octet);
                3
            });
        }
        outbox.rewrite(|_, buffer, len| {
            assert_eq!((buffer.len(), len), (5, 3));
            buffer[3..].fill(9);
            (buffer[0] != 6).then_some((elsewhere, 5))
        });
        let packets: Vec<_> =
            outbox.packets().map(|(packet, octets)| (packet.to, octets.to_vec())).collect();
        let grown = |octet| (elsewhere, vec![octet, octet, octet, 9, 9]);
        assert_eq!(packets, [(to, vec![0]), grown(5), grown(7)]);
    }
}
