//! What a sink hears of its sources: one frame as it is, or the sum of several.

use crate::codec::{Codec, Encoded, PCM_SAMPLES, Pcm};
use crate::matrix::Hearing;
use crate::sound::Sound;

/// Ports as the mixer sees them: what each was heard saying in the present round.
pub trait Sources {
    /// The frame as it came, if it is known so.
    fn encoded(&self, source: usize, round: u64) -> Option<&Encoded>;

    /// The samples, decoded at most once a round.
    fn pcm(&mut self, source: usize, round: u64) -> Option<&Pcm>;
}

/// A straight line of gain over one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fade {
    /// From nothing.
    In,
    /// To nothing.
    Out,
}

impl Fade {
    /// The gain of a sample, in parts of a frame; both directions add up to a whole.
    fn gain(self, index: usize) -> i32 {
        match self {
            Self::In => index as i32,
            Self::Out => (PCM_SAMPLES - index) as i32,
        }
    }
}

/// A sum of frames, clamped once at its end so that loud voices do not distort each other.
#[derive(Debug)]
pub struct Sum {
    samples: [i32; PCM_SAMPLES],
    is_nothing: bool,
}

impl Default for Sum {
    fn default() -> Self {
        Self { samples: [0; PCM_SAMPLES], is_nothing: true }
    }
}

impl Sum {
    /// Adds 20 ms.
    pub fn add(&mut self, pcm: &Pcm) {
        self.is_nothing = false;
        for (sum, sample) in self.samples.iter_mut().zip(pcm) {
            *sum += i32::from(*sample);
        }
    }

    /// Adds 20 ms that swell from nothing, or die away to nothing.
    pub fn add_fading(&mut self, pcm: &Pcm, fade: Fade) {
        self.is_nothing = false;
        for (index, (sum, sample)) in self.samples.iter_mut().zip(pcm).enumerate() {
            *sum += i32::from(*sample) * fade.gain(index) / PCM_SAMPLES as i32;
        }
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.is_nothing
    }

    /// Writes the sum within what a sample can say.
    pub fn write(&self, pcm: &mut Pcm) {
        for (sample, sum) in pcm.iter_mut().zip(&self.samples) {
            *sample = (*sum).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }
}

/// Writes the sum of what `sources` were heard saying; false when it is nothing.
pub fn mix(sources: &[usize], round: u64, heard: &mut impl Sources, out: &mut Pcm) -> bool {
    if let [only] = sources {
        let pcm = heard.pcm(*only, round);
        return pcm.inspect(|pcm| *out = **pcm).is_some();
    }
    let mut sum = Sum::default();
    for source in sources {
        if let Some(pcm) = heard.pcm(*source, round) {
            sum.add(pcm);
        }
    }
    if !sum.is_nothing() {
        sum.write(out);
    }
    !sum.is_nothing()
}

/// What a sink that speaks `codec` hears: a single source of the same codec is passed on untouched.
///
/// In the frame after a change who is new is faded in and who has gone is faded out, so that
/// nothing clicks; those who stay are added as ever.
pub fn hear(
    hearing: Hearing<'_>,
    codec: Codec,
    round: u64,
    heard: &mut impl Sources,
    out: &mut Sound,
) {
    out.clear();
    if !hearing.joining.is_empty() || !hearing.leaving.is_empty() {
        return hear_change(hearing, round, heard, out);
    }
    match hearing.sources {
        [] => {}
        [only] => {
            let encoded = heard.encoded(*only, round);
            if let Some(encoded) = encoded.filter(|encoded| encoded.codec() == codec) {
                out.set_encoded(codec, encoded.payload());
            } else if let Some(pcm) = heard.pcm(*only, round) {
                *out.start_pcm() = *pcm;
            }
        }
        several => {
            if !mix(several, round, heard, out.start_pcm()) {
                out.clear();
            }
        }
    }
}

fn hear_change(hearing: Hearing<'_>, round: u64, heard: &mut impl Sources, out: &mut Sound) {
    let mut sum = Sum::default();
    for source in hearing.sources.iter().chain(hearing.leaving) {
        let Some(pcm) = heard.pcm(*source, round) else { continue };
        if hearing.leaving.contains(source) {
            sum.add_fading(pcm, Fade::Out);
        } else if hearing.joining.contains(source) {
            sum.add_fading(pcm, Fade::In);
        } else {
            sum.add(pcm);
        }
    }
    if !sum.is_nothing() {
        sum.write(out.start_pcm());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources that say one level each; those of even number are known as on the wire.
    struct Levels(Vec<Option<i16>>, Vec<Encoded>, Pcm);

    impl Levels {
        fn new(levels: &[Option<i16>]) -> Self {
            let encoded = (0..levels.len() as u8)
                .map(|index| Encoded::new(Codec::Pcma, &[index; 160]).unwrap());
            Self(levels.to_vec(), encoded.collect(), [0; PCM_SAMPLES])
        }
    }

    impl Sources for Levels {
        fn encoded(&self, source: usize, _round: u64) -> Option<&Encoded> {
            self.0[source].filter(|_| source.is_multiple_of(2)).map(|_| &self.1[source])
        }

        fn pcm(&mut self, source: usize, _round: u64) -> Option<&Pcm> {
            let level = self.0[source]?;
            self.2 = [level; PCM_SAMPLES];
            Some(&self.2)
        }
    }

    fn heard(sources: &[usize], codec: Codec, levels: &[Option<i16>]) -> Sound {
        let mut out = Sound::default();
        let hearing = Hearing { sources, ..Hearing::default() };
        hear(hearing, codec, 0, &mut Levels::new(levels), &mut out);
        out
    }

    #[test]
    fn one_like_source_is_passed_on_and_an_unlike_one_is_linear() {
        let levels = [Some(100), Some(200), Some(300)];
        let passed = heard(&[2], Codec::Pcma, &levels);
        assert_eq!(passed.encoded().map(Encoded::payload), Some(&[2; 160][..]));
        assert_eq!(heard(&[2], Codec::Pcmu, &levels).pcm(), Some(&[300; PCM_SAMPLES]));
        assert_eq!(heard(&[1], Codec::Pcma, &levels).pcm(), Some(&[200; PCM_SAMPLES]));
    }

    #[test]
    fn several_are_summed_and_clamped_once() {
        let levels = [Some(30_000), Some(20_000), Some(-30_000), None];
        assert_eq!(heard(&[0, 1, 2], Codec::Pcma, &levels).pcm(), Some(&[20_000; PCM_SAMPLES]));
        assert_eq!(heard(&[0, 1], Codec::Pcma, &levels).pcm(), Some(&[i16::MAX; PCM_SAMPLES]));
        assert_eq!(heard(&[1, 3], Codec::Pcma, &levels).pcm(), Some(&[20_000; PCM_SAMPLES]));
    }

    #[test]
    fn a_change_fades_and_leaves_alone_who_stays() {
        let mut levels = Levels::new(&[Some(1000), Some(1600), Some(3200)]);
        let hearing = Hearing { sources: &[0, 1], joining: &[1], leaving: &[2] };
        let mut out = Sound::default();
        hear(hearing, Codec::Pcma, 0, &mut levels, &mut out);
        let pcm = out.pcm().unwrap();
        assert_eq!((pcm[0], pcm[80], pcm[159]), (4200, 3400, 1000 + 1590 + 20));
        let steps = pcm.windows(2).map(|pair| pair[0] - pair[1]);
        assert!(steps.into_iter().all(|step| (9..=11).contains(&step)));
    }

    #[test]
    fn nobody_says_nothing() {
        assert!(heard(&[], Codec::Pcma, &[]).is_nothing());
        assert!(heard(&[0], Codec::Pcma, &[None]).is_nothing());
        assert!(heard(&[0, 1], Codec::Pcma, &[None, None]).is_nothing());
    }
}
