//! RTCP packets: RFC 3550 section 6, reduced-size ones of RFC 5506, and telling them from RTP on
//! one port (RFC 5761 section 4).

use crate::rtp::{RtpTimestamp, Ssrc};

pub mod session;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;

/// Packet types set apart for RTCP where it shares a port with RTP, RFC 5761 section 4.
const TYPES: std::ops::RangeInclusive<u8> = 192..=223;

const HEADER_LEN: usize = 4;
const BLOCK_LEN: usize = 24;
const SENDER_INFO_LEN: usize = 20;

/// The item of a source description that names the sender, section 6.5.1.
const CNAME: u8 = 1;

/// Largest packet we send: a report with one block, a name and a goodbye.
pub const MAX_LEN: usize = 128;

/// Wall-clock time as RTCP carries it: seconds since 1900 in 32.32 fixed point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The middle 32 bits, which reports give back: seconds in 16.16 fixed point.
    #[must_use]
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The time since 1900, which wraps in 2036 as the format does.
    #[must_use]
    pub fn since_1900(time: std::time::Duration) -> Self {
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        Self((time.as_secs() << 32) | fraction)
    }
}

/// What one side says of the stream it receives from the other, section 6.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// Whose stream.
    pub ssrc: Ssrc,
    /// Packets lost since the last report, in 256ths of those expected.
    pub fraction_lost: u8,
    /// Packets lost from the beginning, 24 bits and signed on the wire.
    pub lost: i32,
    /// Highest sequence number with the count of wraps.
    pub highest: u32,
    /// Interarrival jitter in RTP ticks.
    pub jitter: u32,
    /// Middle of the NTP time of the last sender report; 0 is none.
    pub last_sr: u32,
    /// Time since that came, in 65536ths of a second.
    pub delay_since_last_sr: u32,
}

/// What a sender says of its own stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// When the report was sent.
    pub ntp: NtpTime,
    /// The same moment on the stream's clock.
    pub timestamp: RtpTimestamp,
    /// Packets sent.
    pub packets: u32,
    /// Octets of payload sent.
    pub octets: u32,
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A sender's or a receiver's report.
    Report {
        /// Who reports.
        ssrc: Ssrc,
        /// Present in a sender's report.
        sender: Option<SenderInfo>,
        /// Report blocks as on the wire; see [`Packet::blocks`].
        blocks: &'a [u8],
    },
    /// The names of sources.
    SourceDescription,
    /// A source leaves.
    Goodbye {
        /// The first that leaves; None when the packet names nobody.
        ssrc: Option<Ssrc>,
    },
    /// Feedback, application-defined and extended reports, which are of no use here.
    Other(u8),
}

impl Packet<'_> {
    /// The blocks of a report.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> {
        let blocks = match self {
            Self::Report { blocks, .. } => blocks,
            _ => &[][..],
        };
        blocks.chunks_exact(BLOCK_LEN).map(ReportBlock::read)
    }
}

/// Why bytes are no compound of RTCP, section A.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A version other than 2.
    Version,
    /// Lengths that do not add up to that of the datagram.
    Length,
    /// Padding anywhere but in the last packet, or more than it holds.
    Padding,
    /// A first packet that is not of RTCP's types.
    Type,
}

/// Whether a datagram that came to a shared port is RTCP; it need not be valid.
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.len() >= 2 && datagram[0] >> 6 == 2 && TYPES.contains(&datagram[1])
}

/// The packets of a datagram, once all of it was checked by section A.2. A compound need not begin
/// with a report: RFC 5506 allows reduced-size ones.
///
/// # Errors
/// When the datagram is no RTCP.
pub fn parse(datagram: &[u8]) -> Result<impl Iterator<Item = Packet<'_>>, Malformed> {
    let mut rest = datagram;
    if !rest.get(1).is_some_and(|first| TYPES.contains(first)) {
        return Err(Malformed::Type);
    }
    while !rest.is_empty() {
        let (_, after) = split(rest)?;
        rest = after;
    }
    let mut rest = datagram;
    Ok(std::iter::from_fn(move || {
        let (packet, after) = split(rest).ok()?;
        rest = after;
        Some(packet)
    }))
}

/// Splits the first packet off.
fn split(datagram: &[u8]) -> Result<(Packet<'_>, &[u8]), Malformed> {
    let (header, _) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Length)?;
    let [flags, kind, high, low] = *header;
    if flags >> 6 != 2 {
        return Err(Malformed::Version);
    }
    let len = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
    let packet = datagram.get(..len).ok_or(Malformed::Length)?;
    let after = &datagram[len..];
    let mut body = &packet[HEADER_LEN..];
    if flags & 0x20 != 0 {
        let padding = usize::from(*body.last().ok_or(Malformed::Padding)?);
        if padding == 0 || padding % 4 != 0 || padding > body.len() || !after.is_empty() {
            return Err(Malformed::Padding);
        }
        body = &body[..body.len() - padding];
    }
    let count = usize::from(flags & 0x1f);
    Ok((read(kind, count, body)?, after))
}

fn read(kind: u8, count: usize, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    match kind {
        SENDER_REPORT | RECEIVER_REPORT => {
            let (ssrc, rest) = body.split_first_chunk::<4>().ok_or(Malformed::Length)?;
            let (sender, rest) = if kind == SENDER_REPORT {
                let (info, rest) =
                    rest.split_first_chunk::<SENDER_INFO_LEN>().ok_or(Malformed::Length)?;
                (Some(SenderInfo::read(info)), rest)
            } else {
                (None, rest)
            };
            // What follows the blocks is an extension of a profile.
            let blocks = rest.get(..count * BLOCK_LEN).ok_or(Malformed::Length)?;
            Ok(Packet::Report { ssrc: Ssrc(u32::from_be_bytes(*ssrc)), sender, blocks })
        }
        GOODBYE => {
            let sources = body.get(..count * 4).ok_or(Malformed::Length)?;
            let first = sources.first_chunk::<4>();
            Ok(Packet::Goodbye { ssrc: first.map(|ssrc| Ssrc(u32::from_be_bytes(*ssrc))) })
        }
        SOURCE_DESCRIPTION => Ok(Packet::SourceDescription),
        other => Ok(Packet::Other(other)),
    }
}

impl SenderInfo {
    fn read(info: &[u8; SENDER_INFO_LEN]) -> Self {
        let seconds = u64::from(word(info, 0));
        Self {
            ntp: NtpTime(seconds << 32 | u64::from(word(info, 4))),
            timestamp: RtpTimestamp(word(info, 8)),
            packets: word(info, 12),
            octets: word(info, 16),
        }
    }
}

impl ReportBlock {
    /// Reads a whole block.
    fn read(block: &[u8]) -> Self {
        Self {
            ssrc: Ssrc(word(block, 0)),
            fraction_lost: block[4],
            // 24 bits, the sign among them.
            lost: (word(block, 4) << 8).cast_signed() >> 8,
            highest: word(block, 8),
            jitter: word(block, 12),
            last_sr: word(block, 16),
            delay_since_last_sr: word(block, 20),
        }
    }
}

fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

/// A compound to be sent: a report and a name, and perhaps a goodbye.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    /// Who sends.
    pub ssrc: Ssrc,
    /// Present when RTP was sent since the last report but one; else it is a receiver's report.
    pub sender: Option<SenderInfo>,
    /// What is received, when anything is.
    pub block: Option<ReportBlock>,
    /// The lasting name of the sender, at most 32 octets.
    pub cname: &'a str,
    /// Whether the sender leaves.
    pub goodbye: bool,
}

impl Compound<'_> {
    /// Writes the datagram and returns its length.
    #[must_use]
    pub fn write(&self, out: &mut [u8; MAX_LEN]) -> usize {
        let mut out = Writer { octets: out, len: 0 };
        let kind = if self.sender.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
        out.packet(kind, u8::from(self.block.is_some()), |out| {
            out.word(self.ssrc.0);
            if let Some(sender) = &self.sender {
                out.word((sender.ntp.0 >> 32) as u32);
                out.word(sender.ntp.0 as u32);
                out.word(sender.timestamp.0);
                out.word(sender.packets);
                out.word(sender.octets);
            }
            if let Some(block) = &self.block {
                out.block(block);
            }
        });
        out.packet(SOURCE_DESCRIPTION, 1, |out| {
            let name = &self.cname.as_bytes()[..self.cname.len().min(32)];
            out.word(self.ssrc.0);
            out.put(&[CNAME, name.len() as u8]);
            out.put(name);
            // A null ends the items, and more fill the word, section 6.5.
            out.put(&[0; 4][..4 - (2 + name.len()) % 4]);
        });
        if self.goodbye {
            out.packet(GOODBYE, 1, |out| out.word(self.ssrc.0));
        }
        out.len
    }
}

/// Writes packets of whole words, all of which fit in [`MAX_LEN`].
struct Writer<'a> {
    octets: &'a mut [u8; MAX_LEN],
    len: usize,
}

impl Writer<'_> {
    fn packet(&mut self, kind: u8, count: u8, body: impl FnOnce(&mut Self)) {
        let start = self.len;
        self.put(&[0x80 | count, kind, 0, 0]);
        body(self);
        let words = ((self.len - start) / 4 - 1) as u16;
        self.octets[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    }

    fn block(&mut self, block: &ReportBlock) {
        let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff).cast_unsigned() & 0xff_ffff;
        self.word(block.ssrc.0);
        self.word(u32::from(block.fraction_lost) << 24 | lost);
        self.word(block.highest);
        self.word(block.jitter);
        self.word(block.last_sr);
        self.word(block.delay_since_last_sr);
    }

    fn word(&mut self, word: u32) {
        self.put(&word.to_be_bytes());
    }

    fn put(&mut self, octets: &[u8]) {
        self.octets[self.len..self.len + octets.len()].copy_from_slice(octets);
        self.len += octets.len();
    }
}

#[cfg(test)]
mod tests;
