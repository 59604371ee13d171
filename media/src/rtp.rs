//! RTP packets: RFC 3550 section 5.1.

/// Synchronization source, RFC 3550 section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssrc(pub u32);

/// Payload type, 7 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pt(pub u8);

impl Pt {
    /// Comfort noise, RFC 3389 section 4.
    pub const COMFORT_NOISE: Pt = Pt(13);
}

/// Sequence number, wrapping at 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceNumber(pub u16);

impl SequenceNumber {
    /// The number that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Media time in ticks of the codec's RTP clock, wrapping at 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpTimestamp(pub u32);

impl RtpTimestamp {
    /// The time `ticks` later.
    #[must_use]
    pub fn after(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// The time `ticks` earlier.
    #[must_use]
    pub fn before(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }

    /// Ticks from `earlier` to here; negative when `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// Ticks of the RTP clock of G.711 and telephone events, per second.
pub const CLOCK_RATE_HZ: u32 = 8000;

/// Length of a header without CSRCs and extension, which is what we send.
pub const HEADER_LEN: usize = 12;

/// A received packet, its payload still in the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Start of a talk spurt, or of a telephone event.
    pub marker: bool,
    /// What the payload is.
    pub pt: Pt,
    /// Order of sending.
    pub sequence: SequenceNumber,
    /// Sampling time of the first octet.
    pub timestamp: RtpTimestamp,
    /// Who sends.
    pub ssrc: Ssrc,
    /// Payload without padding.
    pub payload: &'a [u8],
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than its header says.
    Truncated,
    /// Version is not 2.
    Version,
    /// Padding count is zero or exceeds the payload.
    Padding,
}

impl<'a> Packet<'a> {
    /// Parses a datagram by the checks of RFC 3550 section A.1.
    ///
    /// # Errors
    /// When the bytes are no RTP packet.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (header, mut rest) =
            datagram.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Truncated)?;
        if header[0] >> 6 != 2 {
            return Err(Malformed::Version);
        }
        let csrc_len = usize::from(header[0] & 0x0f) * 4;
        rest = rest.get(csrc_len..).ok_or(Malformed::Truncated)?;
        if header[0] & 0x10 != 0 {
            let (extension, after) = rest.split_first_chunk::<4>().ok_or(Malformed::Truncated)?;
            let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
            rest = after.get(words * 4..).ok_or(Malformed::Truncated)?;
        }
        if header[0] & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(Malformed::Padding)?);
            if padding == 0 || padding > rest.len() {
                return Err(Malformed::Padding);
            }
            rest = &rest[..rest.len() - padding];
        }
        Ok(Self {
            marker: header[1] & 0x80 != 0,
            pt: Pt(header[1] & 0x7f),
            sequence: SequenceNumber(u16::from_be_bytes([header[2], header[3]])),
            timestamp: RtpTimestamp(u32::from_be_bytes([
                header[4], header[5], header[6], header[7],
            ])),
            ssrc: Ssrc(u32::from_be_bytes([header[8], header[9], header[10], header[11]])),
            payload: rest,
        })
    }

    /// Writes header and payload to `out` and returns the length; `out` must be large enough.
    pub fn write(&self, out: &mut [u8]) -> usize {
        out[0] = 0x80;
        out[1] = (u8::from(self.marker) << 7) | (self.pt.0 & 0x7f);
        out[2..4].copy_from_slice(&self.sequence.0.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.0.to_be_bytes());
        out[8..HEADER_LEN].copy_from_slice(&self.ssrc.0.to_be_bytes());
        let len = HEADER_LEN + self.payload.len();
        out[HEADER_LEN..len].copy_from_slice(self.payload);
        len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(payload: &[u8]) -> Packet<'_> {
        Packet {
            marker: true,
            pt: Pt(8),
            sequence: SequenceNumber(0xfffe),
            timestamp: RtpTimestamp(0xdead_beef),
            ssrc: Ssrc(0x0102_0304),
            payload,
        }
    }

    #[test]
    fn what_is_written_is_parsed() {
        let mut out = [0; 64];
        let len = packet(b"abc").write(&mut out);
        assert_eq!(Packet::parse(&out[..len]), Ok(packet(b"abc")));
    }

    #[test]
    fn csrcs_extension_and_padding_are_skipped() {
        let mut bytes = vec![0; HEADER_LEN];
        packet(b"").write(&mut bytes);
        bytes[0] = 0x80 | 0x20 | 0x10 | 2;
        bytes.extend([0; 8]); // two CSRCs
        bytes.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]); // one extension word
        bytes.extend(b"voice\x00\x00\x03"); // three octets of padding
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"voice");
    }

    #[test]
    fn malformed_packets_say_why() {
        assert_eq!(Packet::parse(&[]), Err(Malformed::Truncated));
        assert_eq!(Packet::parse(&[0x80; 11]), Err(Malformed::Truncated));
        assert_eq!(Packet::parse(&[0x40; 12]), Err(Malformed::Version));
        assert_eq!(Packet::parse(&[0x8f; 12]), Err(Malformed::Truncated));
        assert_eq!(Packet::parse(&[0x90; 14]), Err(Malformed::Truncated));
        assert_eq!(Packet::parse(&[0xa0; 12]), Err(Malformed::Padding));
        let mut padded = [0; 14];
        padded[0] = 0xa0;
        assert_eq!(Packet::parse(&padded), Err(Malformed::Padding));
    }

    #[test]
    fn timestamps_wrap() {
        assert_eq!(RtpTimestamp(10).since(RtpTimestamp(u32::MAX)), 11);
        assert_eq!(RtpTimestamp(u32::MAX).since(RtpTimestamp(10)), -11);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(parsed) = Packet::parse(&bytes) {
                prop_assert!(parsed.payload.len() <= bytes.len() - HEADER_LEN);
            }
        }

        #[test]
        fn round_trip(
            marker: bool, pt in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..480),
        ) {
            let sent = Packet {
                marker, pt: Pt(pt), sequence: SequenceNumber(sequence),
                timestamp: RtpTimestamp(timestamp), ssrc: Ssrc(ssrc), payload: &payload,
            };
            let mut out = [0; 512];
            let len = sent.write(&mut out);
            prop_assert_eq!(Packet::parse(&out[..len]), Ok(sent));
        }
    }
}
