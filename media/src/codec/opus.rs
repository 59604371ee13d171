//! Opus at 8 kHz: RFC 6716 and, on RTP, RFC 7587. Decoding at the engine's rate is part of the
//! codec, so no resampler is needed.

use opus_pure::{Application, OpusDecoder, OpusEncoder, Repacketizer};

use super::PCM_SAMPLES;

const SAMPLE_RATE_HZ: i32 = 8000;

/// Most samples in a packet, 120 ms.
pub const MAX_PACKET_SAMPLES: usize = 6 * PCM_SAMPLES;

/// What we send. Narrowband speech gains little above it (RFC 7587 section 3.1.1).
const BITRATE_BPS: i32 = 20_000;

/// Of 10. Above it the ear gains little, and the time for a frame doubles.
const COMPLEXITY: i32 = 4;

/// A packet this short carries no audio: its sender saves bits in silence (DTX).
const MAX_SILENT_LEN: usize = 2;

/// Whether a packet is one of discontinuous transmission.
#[must_use]
pub fn is_silence(packet: &[u8]) -> bool {
    packet.len() <= MAX_SILENT_LEN
}

/// Decodes a stream.
#[derive(Debug)]
pub struct Decoder(OpusDecoder);

impl Default for Decoder {
    fn default() -> Self {
        Self(OpusDecoder::new(SAMPLE_RATE_HZ, 1).expect("Opus knows 8 kHz mono"))
    }
}

impl Decoder {
    /// Decodes a packet of any length; returns how many samples it held, 0 when it is damaged.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16; MAX_PACKET_SAMPLES]) -> usize {
        if packet.is_empty() {
            return 0;
        }
        self.0.decode_s16(packet, out.len(), out).unwrap_or_default().min(MAX_PACKET_SAMPLES)
    }

    /// Fills in what is lost, whole pieces of 2.5 ms.
    pub fn conceal(&mut self, out: &mut [i16]) {
        if self.0.decode_s16(&[], out.len(), out).is_err() {
            out.fill(0);
        }
    }

    /// Forgets the stream.
    pub fn reset(&mut self) {
        if self.0.reset_state().is_err() {
            *self = Self::default();
        }
    }
}

/// Encodes a stream in packets of 20 ms.
#[derive(Debug)]
pub struct Encoder {
    encoder: OpusEncoder,
    /// Joins frames of 10 ms; None: a packet is one frame of 20 ms.
    halves: Option<Repacketizer>,
}

impl Encoder {
    /// An encoder of a new stream; its packets can be cut in `halves` where that is asked for.
    #[must_use]
    pub fn new(halves: bool) -> Self {
        let mut encoder =
            OpusEncoder::new(SAMPLE_RATE_HZ, 1, Application::Voip).expect("Opus knows 8 kHz mono");
        encoder.bitrate_bps = BITRATE_BPS;
        encoder.complexity = COMPLEXITY;
        Self { encoder, halves: halves.then(Repacketizer::new) }
    }

    /// Encodes 20 ms; returns the octets written.
    pub fn encode(&mut self, pcm: &[i16; PCM_SAMPLES], out: &mut [u8]) -> usize {
        let Some(joined) = &mut self.halves else {
            return self.encoder.encode_s16(pcm, PCM_SAMPLES, out).unwrap_or_default();
        };
        joined.clear();
        for half in pcm.chunks(PCM_SAMPLES / 2) {
            let len = self.encoder.encode_s16(half, half.len(), out).unwrap_or_default();
            // What cannot follow the frame before it, or is none, is lost.
            let _ = joined.cat(&out[..len]);
        }
        let Ok(packet) = joined.out() else { return 0 };
        out[..packet.len()].copy_from_slice(&packet);
        packet.len()
    }

    /// Forgets the stream.
    pub fn reset(&mut self) {
        if self.encoder.reset_state().is_err() {
            *self = Self::new(self.halves.is_some());
        }
    }
}
