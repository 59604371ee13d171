//! WAV files: reading prompts, and the header of recordings.

use std::fmt;

use crate::g711::{FRAME_MS, Law};

/// Sampling rate of everything the engine plays and records.
pub const SAMPLE_RATE_HZ: u32 = 8000;

/// Length of the header `header` makes.
pub const HEADER_LEN: usize = 44;

/// Length of the header of an A-law file: a format chunk with its extension's length, and a `fact`
/// chunk, which everything that is not linear has.
const A_LAW_HEADER_LEN: usize = 58;

const FORMAT_PCM: u16 = 1;
const FORMAT_A_LAW: u16 = 6;
const FORMAT_EXTENSIBLE: u16 = 0xfffe;

/// Why a file cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplayable {
    /// No RIFF/WAVE header.
    NotWav,
    /// No `fmt ` chunk before the data, or no data.
    Incomplete,
    /// Not linear 16-bit samples.
    Format {
        /// Format tag of the file.
        tag: u16,
        /// Bits of a sample.
        bits: u16,
    },
    /// More than one channel.
    Channels(u16),
    /// Not 8000 Hz.
    Rate(u32),
}

impl fmt::Display for Unplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWav => write!(f, "not a WAV file"),
            Self::Incomplete => write!(f, "WAV file without format or data"),
            Self::Format { tag, bits } => {
                write!(f, "WAV format {tag} with {bits} bits; PCM with 16 bits is needed")
            }
            Self::Channels(count) => write!(f, "{count} channels; mono is needed"),
            Self::Rate(rate_hz) => write!(f, "{rate_hz} Hz; {SAMPLE_RATE_HZ} Hz is needed"),
        }
    }
}

/// The sample octets (little-endian PCM16) of a mono file of 8000 Hz.
///
/// # Errors
/// When the file is no WAV file or has another format.
pub fn samples(file: &[u8]) -> Result<&[u8], Unplayable> {
    let rest = file.strip_prefix(b"RIFF").and_then(|rest| rest.get(4..));
    let mut rest = rest.and_then(|rest| rest.strip_prefix(b"WAVE")).ok_or(Unplayable::NotWav)?;
    let mut playable = false;
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        // Writers that stream leave the size of the last chunk too large; take what is there.
        let chunk = &body[..size.min(body.len())];
        match &head[..4] {
            b"fmt " => {
                check_format(chunk)?;
                playable = true;
            }
            b"data" if playable => return Ok(&chunk[..chunk.len() & !1]),
            _ => {}
        }
        // Chunks are padded to even length.
        rest = body.get(size.saturating_add(size & 1)..).unwrap_or_default();
    }
    Err(Unplayable::Incomplete)
}

fn check_format(chunk: &[u8]) -> Result<(), Unplayable> {
    let format = chunk.first_chunk::<16>().ok_or(Unplayable::Incomplete)?;
    let word = |at: usize| u16::from_le_bytes([format[at], format[at + 1]]);
    let rate_hz = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
    let (channels, bits) = (word(2), word(14));
    // The extensible form carries the real tag at the start of its sub-format GUID.
    let tag = match (word(0), chunk.get(24..26)) {
        (FORMAT_EXTENSIBLE, Some(tag)) => u16::from_le_bytes([tag[0], tag[1]]),
        (tag, _) => tag,
    };
    if tag != FORMAT_PCM || bits != 16 {
        return Err(Unplayable::Format { tag, bits });
    }
    if channels != 1 {
        return Err(Unplayable::Channels(channels));
    }
    if rate_hz != SAMPLE_RATE_HZ {
        return Err(Unplayable::Rate(rate_hz));
    }
    Ok(())
}

/// How the samples of a recording are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Linear, 16 bits.
    #[default]
    Pcm16,
    /// G.711 A-law, half as large.
    ALaw,
}

/// What a recording looks like on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How its samples are written.
    pub form: Form,
    /// 1 or 2; the channels are interleaved.
    pub channels: u16,
}

impl Layout {
    /// Octets of a sample.
    #[must_use]
    pub fn sample_len(self) -> usize {
        match self.form {
            Form::Pcm16 => 2,
            Form::ALaw => 1,
        }
    }

    /// Octets of 20 ms.
    #[must_use]
    pub fn frame_len(self) -> usize {
        let samples = (SAMPLE_RATE_HZ * FRAME_MS / 1000) as usize;
        samples * self.sample_len() * usize::from(self.channels)
    }

    /// The octet that silence is made of.
    #[must_use]
    pub fn silence(self) -> u8 {
        match self.form {
            Form::Pcm16 => 0,
            Form::ALaw => Law::A.silence(),
        }
    }

    /// The header of a file with so much audio.
    #[must_use]
    pub fn header(self, data_len: u64) -> Vec<u8> {
        match self.form {
            Form::Pcm16 => header(self.channels, data_len).to_vec(),
            Form::ALaw => a_law_header(self.channels, data_len).to_vec(),
        }
    }
}

fn a_law_header(channels: u16, data_len: u64) -> [u8; A_LAW_HEADER_LEN] {
    let data_len = u32::try_from(data_len).unwrap_or(u32::MAX);
    let mut out = [0; A_LAW_HEADER_LEN];
    out[..4].copy_from_slice(b"RIFF");
    let rest_len = A_LAW_HEADER_LEN as u32 - 8;
    out[4..8].copy_from_slice(&data_len.saturating_add(rest_len).to_le_bytes());
    out[8..16].copy_from_slice(b"WAVEfmt ");
    out[16..20].copy_from_slice(&18u32.to_le_bytes());
    out[20..22].copy_from_slice(&FORMAT_A_LAW.to_le_bytes());
    out[22..24].copy_from_slice(&channels.to_le_bytes());
    out[24..28].copy_from_slice(&SAMPLE_RATE_HZ.to_le_bytes());
    out[28..32].copy_from_slice(&(SAMPLE_RATE_HZ * u32::from(channels)).to_le_bytes());
    out[32..34].copy_from_slice(&channels.to_le_bytes());
    out[34..36].copy_from_slice(&8u16.to_le_bytes());
    out[38..42].copy_from_slice(b"fact");
    out[42..46].copy_from_slice(&4u32.to_le_bytes());
    out[46..50].copy_from_slice(&(data_len / u32::from(channels.max(1))).to_le_bytes());
    out[50..54].copy_from_slice(b"data");
    out[54..58].copy_from_slice(&data_len.to_le_bytes());
    out
}

/// Header of a PCM16 file of 8000 Hz; lengths beyond 4 GiB stay at what the format can say.
#[must_use]
pub fn header(channels: u16, data_len: u64) -> [u8; HEADER_LEN] {
    let data_len = u32::try_from(data_len).unwrap_or(u32::MAX);
    let block_len = channels * 2;
    let mut out = [0; HEADER_LEN];
    out[..4].copy_from_slice(b"RIFF");
    out[4..8].copy_from_slice(&data_len.saturating_add(36).to_le_bytes());
    out[8..16].copy_from_slice(b"WAVEfmt ");
    out[16..20].copy_from_slice(&16u32.to_le_bytes());
    out[20..22].copy_from_slice(&FORMAT_PCM.to_le_bytes());
    out[22..24].copy_from_slice(&channels.to_le_bytes());
    out[24..28].copy_from_slice(&SAMPLE_RATE_HZ.to_le_bytes());
    out[28..32].copy_from_slice(&(SAMPLE_RATE_HZ * u32::from(block_len)).to_le_bytes());
    out[32..34].copy_from_slice(&block_len.to_le_bytes());
    out[34..36].copy_from_slice(&16u16.to_le_bytes());
    out[36..40].copy_from_slice(b"data");
    out[40..44].copy_from_slice(&data_len.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(channels: u16, data: &[u8]) -> Vec<u8> {
        [&header(channels, data.len() as u64)[..], data].concat()
    }

    #[test]
    fn our_own_files_are_read() {
        assert_eq!(samples(&file(1, &[1, 2, 3, 4])), Ok(&[1, 2, 3, 4][..]));
    }

    #[test]
    fn a_law_files_say_what_they_are() {
        let layout = Layout { form: Form::ALaw, channels: 2 };
        let header = layout.header(640);
        assert_eq!(header.len(), A_LAW_HEADER_LEN);
        assert_eq!(header[4..8], 690u32.to_le_bytes());
        assert_eq!(header[20..24], [6, 0, 2, 0]);
        assert_eq!(header[28..36], [0x80, 0x3e, 0, 0, 2, 0, 8, 0]);
        assert_eq!(header[46..50], 320u32.to_le_bytes());
        assert_eq!((layout.frame_len(), layout.silence()), (320, 0xd5));
        assert_eq!(samples(&header), Err(Unplayable::Format { tag: 6, bits: 8 }));
    }

    #[test]
    fn other_chunks_are_passed_over() {
        let plain = file(1, &[1, 2]);
        let mut bytes = plain[..12].to_vec();
        bytes.extend(b"LIST\x03\x00\x00\x00abc\x00");
        bytes.extend(&plain[12..]);
        assert_eq!(samples(&bytes), Ok(&[1, 2][..]));
    }

    #[test]
    fn a_size_that_is_too_large_takes_what_is_there() {
        let mut bytes = file(1, &[1, 2, 3]);
        bytes[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(samples(&bytes), Ok(&[1, 2][..]));
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        assert_eq!(samples(b"ID3\x04"), Err(Unplayable::NotWav));
        assert_eq!(samples(b"RIFF\0\0\0\0WAVE"), Err(Unplayable::Incomplete));
        assert_eq!(samples(&file(2, &[0; 4])), Err(Unplayable::Channels(2)));
        let mut bytes = file(1, &[0; 4]);
        bytes[24..28].copy_from_slice(&16_000u32.to_le_bytes());
        assert_eq!(samples(&bytes).unwrap_err().to_string(), "16000 Hz; 8000 Hz is needed");
        bytes[34] = 8;
        assert_eq!(samples(&bytes), Err(Unplayable::Format { tag: 1, bits: 8 }));
        bytes[20] = 6;
        assert_eq!(samples(&bytes), Err(Unplayable::Format { tag: 6, bits: 8 }));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(
            at in 0usize..60, bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = samples(&bytes);
            let mut damaged = file(1, &[7; 32]);
            for (octet, damage) in damaged.iter_mut().skip(at).zip(bytes) {
                *octet = damage;
            }
            let _ = samples(&damaged);
        }
    }
}
