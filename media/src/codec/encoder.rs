//! From PCM at 8 kHz to payloads of 20 ms.

use super::{Codec, G729_FRAME_LEN, MAX_FRAME_LEN, PCM_SAMPLES, Pcm, g722, g729, opus};
use crate::g711::Law;

/// Encodes one stream.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec,
    coder: Coder,
}

#[derive(Debug)]
enum Coder {
    Law(Law),
    G722(Box<g722::Encoder>),
    G729(Box<g729::Encoder>),
    /// Made when it is first needed: it is large, and like legs need none.
    Opus {
        encoder: Option<Box<opus::Encoder>>,
        halves: bool,
    },
}

impl Encoder {
    /// An encoder of a new stream.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self::for_packets(codec, 20)
    }

    /// An encoder of a new stream, which will be cut or joined to packets of `packet_time_ms`.
    #[must_use]
    pub fn for_packets(codec: Codec, packet_time_ms: u8) -> Self {
        let coder = match codec {
            Codec::Pcma => Coder::Law(Law::A),
            Codec::Pcmu => Coder::Law(Law::Mu),
            Codec::G722 => Coder::G722(Box::default()),
            Codec::G729 => Coder::G729(Box::default()),
            Codec::Opus => {
                Coder::Opus { encoder: None, halves: !packet_time_ms.is_multiple_of(20) }
            }
        };
        Self { codec, coder }
    }

    /// How it encodes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Forgets the stream, as after a time in which frames of another were passed on.
    pub fn reset(&mut self) {
        match &mut self.coder {
            Coder::Law(_) => {}
            Coder::G722(encoder) => **encoder = g722::Encoder::default(),
            Coder::G729(encoder) => **encoder = g729::Encoder::default(),
            Coder::Opus { encoder, .. } => {
                if let Some(encoder) = encoder {
                    encoder.reset();
                }
            }
        }
    }

    /// Encodes 20 ms; returns the octets written.
    pub fn encode(&mut self, pcm: &Pcm, out: &mut [u8; MAX_FRAME_LEN]) -> usize {
        match &mut self.coder {
            Coder::Law(law) => {
                law.encode_all(pcm, out);
                PCM_SAMPLES
            }
            Coder::G722(encoder) => {
                encoder.encode(pcm, out);
                PCM_SAMPLES
            }
            Coder::G729(encoder) => {
                let frames = pcm.as_chunks().0;
                let octets = out.as_chunks_mut().0;
                for (octets, frame) in octets.iter_mut().zip(frames) {
                    *octets = encoder.encode(frame);
                }
                frames.len() * G729_FRAME_LEN
            }
            Coder::Opus { encoder, halves } => encoder
                .get_or_insert_with(|| Box::new(opus::Encoder::new(*halves)))
                .encode(pcm, out),
        }
    }

    /// Encodes 20 ms of silence; returns the octets written.
    pub fn encode_silence(&mut self, out: &mut [u8; MAX_FRAME_LEN]) -> usize {
        if let Coder::Law(law) = &self.coder {
            out[..PCM_SAMPLES].fill(law.silence());
            return PCM_SAMPLES;
        }
        self.encode(&[0; PCM_SAMPLES], out)
    }
}
