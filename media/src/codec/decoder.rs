//! From payloads to PCM at 8 kHz, with what covers losses and silence.

use super::concealment::Concealer;
use super::{Codec, ComfortNoise, PCM_SAMPLES, Pcm, g722, g729, is_silence, opus};
use crate::g711::Law;
use crate::sound::CACHE_LINE;

/// Room for a packet of 120 ms after a rest of less than 20 ms.
const QUEUE_SAMPLES: usize = 7 * PCM_SAMPLES;

/// After this much of concealment a stream has ended rather than lost packets, 100 ms.
const MAX_CONCEALED_SAMPLES: usize = 5 * PCM_SAMPLES;

/// Octets of G.711 that are kept to cover a loss after them, 60 ms.
const MAX_SKIPPED: usize = 3 * PCM_SAMPLES;

/// What 20 ms of decoded audio are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Received audio, perhaps with a part concealed.
    Audio,
    /// A guess in place of lost audio.
    Concealed,
    /// Background noise: the far end is silent on purpose.
    Noise,
    /// Nothing; the samples are zero.
    Nothing,
}

/// Decodes one stream.
///
/// [`push`](Self::push) takes payloads of any length in their order, [`pull`](Self::pull) gives
/// 20 ms and covers what is missing; [`decode`](Self::decode) and [`conceal`](Self::conceal) do
/// both for streams cut in 20 ms.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    coder: Coder,
    queue: Queue,
    concealed: usize,
    /// The last thing heard of the far end was that it is silent.
    silent: bool,
    noise: Option<ComfortNoise>,
    /// Payloads were left out, so that the coder's state is another one than the sender's.
    stale: bool,
}

#[derive(Debug)]
enum Coder {
    Law(Law, Box<Concealer>, Box<Skipped>),
    G722(Box<g722::Decoder>, Box<Concealer>),
    G729(Box<g729::Decoder>),
    /// Made when it is first needed: it is large, and like legs need none.
    Opus(Option<Box<opus::Decoder>>),
}

impl Decoder {
    /// A decoder of a new stream.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let coder = match codec {
            Codec::Pcma => Coder::Law(Law::A, Box::default(), Box::default()),
            Codec::Pcmu => Coder::Law(Law::Mu, Box::default(), Box::default()),
            Codec::G722 => Coder::G722(Box::default(), Box::default()),
            Codec::G729 => Coder::G729(Box::default()),
            Codec::Opus => Coder::Opus(None),
        };
        Self {
            codec,
            coder,
            queue: Queue::default(),
            concealed: MAX_CONCEALED_SAMPLES,
            silent: false,
            noise: None,
            stale: false,
        }
    }

    /// Reads a little of what the next 20 ms of G.711 need.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        let coder = match &self.coder {
            Coder::Law(_, concealer, skipped) => {
                u64::from(concealer.is_covering()) + skipped.fetch()
            }
            _ => 0,
        };
        coder + self.queue.len as u64 + self.concealed as u64 + u64::from(self.silent)
    }

    /// What it decodes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether the far end has said that it is silent: what is missing is no loss.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Forgets the stream, as for another source.
    pub fn reset(&mut self) {
        self.reset_coder();
        self.queue.clear();
        self.concealed = MAX_CONCEALED_SAMPLES;
        self.silent = false;
        self.noise = None;
    }

    /// Whether the next 20 ms are what G.711 says octet by octet: nothing waits, and nothing before
    /// them was lost.
    #[must_use]
    pub fn is_unbroken(&self) -> bool {
        let Coder::Law(_, concealer, _) = &self.coder else { return false };
        self.queue.len == 0 && !concealer.is_covering()
    }

    fn reset_coder(&mut self) {
        self.stale = false;
        match &mut self.coder {
            Coder::Law(_, concealer, skipped) => {
                **concealer = Concealer::default();
                skipped.len = 0;
            }
            Coder::G722(decoder, concealer) => {
                **decoder = g722::Decoder::default();
                **concealer = Concealer::default();
            }
            Coder::G729(decoder) => **decoder = g729::Decoder::default(),
            Coder::Opus(decoder) => {
                if let Some(decoder) = decoder {
                    decoder.reset();
                }
            }
        }
    }

    /// Notes a payload that nobody needs decoded, or, when it is empty, one that is lost: like legs
    /// pass it on as it is. What a loss after it is covered with, is decoded only then.
    pub fn skip(&mut self, payload: &[u8]) {
        match &mut self.coder {
            Coder::Law(_, _, skipped) => skipped.push(payload),
            // What G.729 knows of a voice serves better than nothing, even when it is older.
            Coder::G729(_) => {}
            Coder::G722(..) | Coder::Opus(_) => self.stale = true,
        }
        self.queue.clear();
        self.concealed = 0;
        if !payload.is_empty() {
            self.silent = is_silence(self.codec, payload);
            self.noise = None;
        }
    }

    /// Takes what was skipped into account before anything is decoded.
    fn catch_up(&mut self) {
        if self.stale {
            self.reset_coder();
        }
        if let Coder::Law(law, concealer, skipped) = &mut self.coder
            && skipped.len > 0
        {
            let mut pcm = [0; MAX_SKIPPED];
            let len = skipped.take(*law, &mut pcm);
            concealer.receive(&mut pcm[..len]);
        }
    }

    /// Decodes 20 ms, or the first 20 ms of more.
    pub fn decode(&mut self, payload: &[u8], out: &mut Pcm) -> Heard {
        if self.decode_unbroken(payload, out) {
            return Heard::Audio;
        }
        self.push(payload);
        self.pull(out)
    }

    /// Decodes 20 ms of G.711 that follow what was given out before; false when there is more to do.
    /// They are kept as octets: the past of a stream, which few losses ask for, is four times that.
    fn decode_unbroken(&mut self, payload: &[u8], out: &mut Pcm) -> bool {
        if payload.len() != out.len() || !self.is_unbroken() {
            return false;
        }
        let Coder::Law(law, _, skipped) = &mut self.coder else { return false };
        let table = law.decoder();
        for (sample, octet) in out.iter_mut().zip(payload) {
            *sample = table[usize::from(*octet)];
        }
        skipped.push(payload);
        self.concealed = 0;
        self.silent = false;
        self.noise = None;
        true
    }

    /// Covers 20 ms of which nothing was received.
    pub fn conceal(&mut self, out: &mut Pcm) -> Heard {
        self.pull(out)
    }

    /// Takes in a payload of up to 120 ms that follows the one before, or a loss covered since. A
    /// payload that is no such codec's is ignored.
    pub fn push(&mut self, payload: &[u8]) {
        if self.codec.payload_ticks(payload).is_none() {
            return;
        }
        self.catch_up();
        let mut pcm = [0; opus::MAX_PACKET_SAMPLES];
        let samples = match &mut self.coder {
            Coder::Law(law, concealer, _) => {
                let table = law.decoder();
                for (sample, octet) in pcm.iter_mut().zip(payload) {
                    *sample = table[usize::from(*octet)];
                }
                let samples = payload.len().min(pcm.len());
                concealer.receive(&mut pcm[..samples]);
                samples
            }
            Coder::G722(decoder, concealer) => {
                let samples = payload.len().min(pcm.len());
                decoder.decode(payload, &mut pcm[..samples]);
                concealer.receive(&mut pcm[..samples]);
                samples
            }
            Coder::G729(decoder) => decode_g729(decoder, payload, &mut pcm),
            Coder::Opus(decoder) => decoder.get_or_insert_default().decode(payload, &mut pcm),
        };
        self.queue.push(&pcm[..samples]);
        self.concealed = 0;
        self.silent = is_silence(self.codec, payload);
        self.noise = None;
    }

    /// Takes a descriptor of comfort noise, RFC 3389: nothing more is lost until audio comes again.
    pub fn comfort_noise(&mut self, descriptor: &[u8]) {
        self.noise.get_or_insert_default().set(descriptor);
        self.silent = true;
    }

    /// Gives the next 20 ms and covers what is missing of them.
    pub fn pull(&mut self, out: &mut Pcm) -> Heard {
        let queued = self.queue.pop(out);
        let missing = &mut out[queued..];
        if missing.is_empty() {
            return if self.silent { Heard::Noise } else { Heard::Audio };
        }
        let covered = self.cover(missing);
        if queued > 0 { Heard::Audio } else { covered }
    }

    fn cover(&mut self, missing: &mut [i16]) -> Heard {
        if let Some(noise) = &mut self.noise {
            noise.fill(missing);
            return Heard::Noise;
        }
        if self.concealed >= MAX_CONCEALED_SAMPLES && !self.silent {
            missing.fill(0);
            return Heard::Nothing;
        }
        self.concealed += missing.len();
        self.catch_up();
        match &mut self.coder {
            Coder::Law(_, concealer, _) | Coder::G722(_, concealer) => {
                if !concealer.conceal(missing) {
                    self.concealed = MAX_CONCEALED_SAMPLES;
                }
            }
            Coder::G729(decoder) => {
                for frame in missing.as_chunks_mut().0 {
                    decoder.conceal(frame);
                }
            }
            Coder::Opus(decoder) => decoder.get_or_insert_default().conceal(missing),
        }
        if self.silent { Heard::Noise } else { Heard::Concealed }
    }
}

/// Decodes frames of 10 ms, the last of which may be a silence descriptor.
fn decode_g729(decoder: &mut g729::Decoder, payload: &[u8], pcm: &mut [i16]) -> usize {
    let (speech, rest) = payload.as_chunks();
    let silence = rest.as_chunks().0.first();
    let frames = pcm.as_chunks_mut().0;
    let mut count = 0;
    for (octets, frame) in speech.iter().zip(frames.iter_mut()) {
        decoder.decode(octets, frame);
        count += 1;
    }
    if let (Some(octets), Some(frame)) = (silence, frames.get_mut(count)) {
        decoder.decode_silence(*octets, frame);
        count += 1;
    }
    count * g729::FRAME
}

/// The last octets of G.711, of which the concealer knows nothing yet.
#[derive(Debug)]
struct Skipped {
    octets: [u8; MAX_SKIPPED],
    /// Where the next one goes.
    end: usize,
    len: usize,
}

impl Default for Skipped {
    fn default() -> Self {
        Self { octets: [0; MAX_SKIPPED], end: 0, len: 0 }
    }
}

impl Skipped {
    /// Reads a little of where the next octets go.
    fn fetch(&self) -> u64 {
        let places = (0..PCM_SAMPLES).step_by(CACHE_LINE);
        places.map(|step| u64::from(self.octets[(self.end + step) % MAX_SKIPPED])).sum()
    }

    /// Appends octets over the oldest ones.
    fn push(&mut self, payload: &[u8]) {
        let payload = &payload[payload.len().saturating_sub(MAX_SKIPPED)..];
        let (first, rest) = payload.split_at(payload.len().min(MAX_SKIPPED - self.end));
        self.octets[self.end..self.end + first.len()].copy_from_slice(first);
        self.octets[..rest.len()].copy_from_slice(rest);
        self.end = (self.end + payload.len()) % MAX_SKIPPED;
        self.len = (self.len + payload.len()).min(MAX_SKIPPED);
    }

    /// Decodes and forgets them; returns how many there were.
    fn take(&mut self, law: Law, pcm: &mut [i16; MAX_SKIPPED]) -> usize {
        let table = law.decoder();
        let len = std::mem::take(&mut self.len);
        let start = (self.end + MAX_SKIPPED - len) % MAX_SKIPPED;
        let octets = self.octets[start..].iter().chain(&self.octets[..start]);
        for (sample, octet) in pcm.iter_mut().zip(octets.take(len)) {
            *sample = table[usize::from(*octet)];
        }
        len
    }
}

/// Decoded samples that were not asked for yet.
#[derive(Debug)]
struct Queue {
    samples: [i16; QUEUE_SAMPLES],
    len: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self { samples: [0; QUEUE_SAMPLES], len: 0 }
    }
}

impl Queue {
    fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends samples; what does not fit is dropped at the front.
    fn push(&mut self, pcm: &[i16]) {
        let surplus = (self.len + pcm.len()).saturating_sub(QUEUE_SAMPLES).min(self.len);
        self.drop_front(surplus);
        let room = &mut self.samples[self.len..];
        let taken = pcm.len().min(room.len());
        room[..taken].copy_from_slice(&pcm[..taken]);
        self.len += taken;
    }

    /// Moves out up to 20 ms; returns how many samples.
    fn pop(&mut self, out: &mut Pcm) -> usize {
        let taken = self.len.min(PCM_SAMPLES);
        out[..taken].copy_from_slice(&self.samples[..taken]);
        self.drop_front(taken);
        taken
    }

    fn drop_front(&mut self, count: usize) {
        self.samples.copy_within(count..self.len, 0);
        self.len -= count;
    }
}

#[cfg(test)]
mod tests;
