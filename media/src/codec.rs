//! The codecs of the engine: what they are called, how their payloads are cut, and their coding.
//!
//! Inside the engine audio is 8 kHz PCM in frames of 20 ms. A payload of G.711, G.722 or G.729 of
//! any packet time is a row of shorter ones; a packet of Opus is decoded as a whole, and a
//! [`Decoder`] keeps what is more than 20 ms. An [`Encoder`] makes 20 ms of a payload.

use crate::g711::Law;
use crate::rtp::Pt;

mod comfort_noise;
mod concealment;
mod decoder;
mod encoder;
mod g722;
mod g729;
pub mod level;
mod opus;

pub use comfort_noise::ComfortNoise;
pub use decoder::{Decoder, Heard};
pub use encoder::Encoder;

/// Samples in 20 ms at 8 kHz.
pub const PCM_SAMPLES: usize = 160;

/// 20 ms of linear audio at 8 kHz.
pub type Pcm = [i16; PCM_SAMPLES];

/// Most octets of 20 ms on the wire. Opus is held to it by `maxaveragebitrate`.
pub const MAX_FRAME_LEN: usize = 480;

/// Octets of 10 ms of G.729, and of a silence descriptor of its annex B (RFC 3551 section 4.5.6).
const G729_FRAME_LEN: usize = 10;
const G729_SID_LEN: usize = 2;

/// RTP ticks of 10 ms of G.729.
const G729_FRAME_TICKS: u32 = 80;

/// The audio codecs spoken on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 A-law.
    Pcma,
    /// G.711 mu-law.
    Pcmu,
    /// G.722 at 64 kbit/s, wideband.
    G722,
    /// G.729 and its annexes A and B.
    G729,
    /// Opus, RFC 6716.
    Opus,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pcma, Self::Pcmu, Self::G722, Self::G729, Self::Opus];

    /// The encoding name of RFC 3551 and RFC 7587.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcma => "PCMA",
            Self::Pcmu => "PCMU",
            Self::G722 => "G722",
            Self::G729 => "G729",
            Self::Opus => "opus",
        }
    }

    /// The codec of an encoding name, whose case does not matter.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// The law, of the two codecs that are one.
    #[must_use]
    pub const fn law(self) -> Option<Law> {
        match self {
            Self::Pcma => Some(Law::A),
            Self::Pcmu => Some(Law::Mu),
            Self::G722 | Self::G729 | Self::Opus => None,
        }
    }

    /// The static payload type of RFC 3551 table 4; Opus has none.
    #[must_use]
    pub const fn static_pt(self) -> Option<Pt> {
        match self {
            Self::Pcma => Some(Pt(8)),
            Self::Pcmu => Some(Pt(0)),
            Self::G722 => Some(Pt(9)),
            Self::G729 => Some(Pt(18)),
            Self::Opus => None,
        }
    }

    /// Ticks of its RTP clock in a second. That of G.722 is 8000 although it samples at 16 kHz
    /// (RFC 3551 section 4.5.2), that of Opus is always 48000 (RFC 7587 section 4.1).
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Pcma | Self::Pcmu | Self::G722 | Self::G729 => 8000,
            Self::Opus => 48000,
        }
    }

    /// Ticks of its RTP clock in 20 ms.
    #[must_use]
    pub const fn frame_ticks(self) -> u32 {
        self.clock_rate_hz() / 50
    }

    /// How long a payload lasts on the RTP clock; None when it cannot be one of this codec.
    #[must_use]
    pub fn payload_ticks(self, payload: &[u8]) -> Option<u32> {
        match self {
            Self::Pcma | Self::Pcmu | Self::G722 => {
                (!payload.is_empty()).then_some(payload.len() as u32)
            }
            // Frames of 10 ms, the last of which may be a silence descriptor.
            Self::G729 => {
                let frames = payload.len() / G729_FRAME_LEN;
                let frames = match payload.len() % G729_FRAME_LEN {
                    0 => frames,
                    G729_SID_LEN => frames + 1,
                    _ => return None,
                };
                (frames > 0).then_some(frames as u32 * G729_FRAME_TICKS)
            }
            Self::Opus => opus_ticks(payload),
        }
    }

    /// Cuts a payload into pieces of at most 20 ms, each with its offset on the RTP clock: octets
    /// of G.711 and G.722, frames of G.729. A packet of Opus is one piece whatever its length.
    pub fn pieces(self, payload: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
        let (octets, ticks) = match self {
            Self::Pcma | Self::Pcmu | Self::G722 => (PCM_SAMPLES, self.frame_ticks()),
            Self::G729 => (2 * G729_FRAME_LEN, self.frame_ticks()),
            Self::Opus => (payload.len().max(1), 0),
        };
        payload.chunks(octets).zip(0..).map(move |(piece, index)| (index * ticks, piece))
    }
}

/// Whether a payload says that its sender is silent and saves packets: a silence descriptor of
/// G.729 annex B, or discontinuous transmission of Opus. What is missing after it is not lost.
#[must_use]
pub fn is_silence(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Pcma | Codec::Pcmu | Codec::G722 => false,
        Codec::G729 => payload.len() % G729_FRAME_LEN == G729_SID_LEN,
        Codec::Opus => opus::is_silence(payload),
    }
}

/// Duration of a packet by its first octets, RFC 6716 section 3.1, at most 120 ms.
fn opus_ticks(packet: &[u8]) -> Option<u32> {
    const TICKS_PER_MS: u32 = 48;
    let toc = *packet.first()?;
    let config = toc >> 3;
    let frame_ticks = match config {
        // SILK: 10, 20, 40, 60 ms.
        0..=11 => [10, 20, 40, 60][usize::from(config & 3)] * TICKS_PER_MS,
        // Hybrid: 10, 20 ms.
        12..=15 => [10, 20][usize::from(config & 1)] * TICKS_PER_MS,
        // CELT: 2.5, 5, 10, 20 ms.
        _ => (TICKS_PER_MS * 5 / 2) << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 0x3f),
    };
    let ticks = frame_ticks * frames;
    (1..=120 * TICKS_PER_MS).contains(&ticks).then_some(ticks)
}

/// 20 ms as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    codec: Codec,
    len: u16,
    octets: [u8; MAX_FRAME_LEN],
}

impl Encoded {
    /// Copies a payload; None when it is longer than any of 20 ms may be.
    #[must_use]
    pub fn new(codec: Codec, payload: &[u8]) -> Option<Self> {
        let mut octets = [0; MAX_FRAME_LEN];
        octets.get_mut(..payload.len())?.copy_from_slice(payload);
        Some(Self { codec, len: payload.len() as u16, octets })
    }

    /// Twenty milliseconds that are to be filled.
    #[must_use]
    pub const fn empty(codec: Codec) -> Self {
        Self { codec, len: 0, octets: [0; MAX_FRAME_LEN] }
    }

    /// Replaces what it holds; what is longer than 20 ms may be is cut off.
    pub fn set(&mut self, codec: Codec, payload: &[u8]) {
        let payload = &payload[..payload.len().min(MAX_FRAME_LEN)];
        self.octets[..payload.len()].copy_from_slice(payload);
        self.len = payload.len() as u16;
        self.codec = codec;
    }

    /// Its octets, `len` of them, to be written; more than 20 ms may be are not given.
    pub fn start(&mut self, codec: Codec, len: usize) -> &mut [u8] {
        self.codec = codec;
        self.len = len.min(MAX_FRAME_LEN) as u16;
        &mut self.octets[..usize::from(self.len)]
    }

    /// Room for octets, of which `start` says how many there are.
    pub fn room(&mut self) -> &mut [u8; MAX_FRAME_LEN] {
        &mut self.octets
    }

    /// How it is encoded.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Its octets.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests;
