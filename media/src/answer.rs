//! Who has answered: a person, who says something short and waits, or a machine, which talks on
//! and beeps.
//!
//! Voice is told from the noise of the line by its level alone. The times are parameters, in ms.

use crate::g711::FRAME_MS;
use crate::single_tone::Heard;

/// Times by which an answer is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerTimes {
    /// Nothing said for so long after the answer: nobody is there to judge.
    pub initial_silence_ms: u32,
    /// A greeting longer than this is a machine's: `您好，您拨打的用户暂时无法接听…`.
    pub greeting_ms: u32,
    /// So much silence after a shorter greeting: a person waits for us to speak.
    pub after_greeting_ms: u32,
    /// Voice for less than this is a click.
    pub min_word_ms: u32,
    /// After so long without a judgement there will be none.
    pub total_ms: u32,
}

impl Default for AnswerTimes {
    fn default() -> Self {
        Self {
            initial_silence_ms: 3000,
            greeting_ms: 1800,
            after_greeting_ms: 800,
            min_word_ms: 100,
            total_ms: 6000,
        }
    }
}

/// The judgement, and the beep after which a machine listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A person.
    Person,
    /// A machine, whose greeting may go on.
    Machine,
    /// Nobody spoke.
    Silence,
    /// Neither could be told in time.
    Unsure,
    /// A machine's beep has ended: it records from now on.
    Beep,
}

impl Answer {
    /// The name by which the call model knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Machine => "machine",
            Self::Silence => "silence",
            Self::Unsure => "unsure",
            Self::Beep => "beep",
        }
    }
}

/// Voice is at least so far above the noise of the line, and above `MIN_VOICE_DBM0`.
const VOICE_OVER_NOISE_DB: f64 = 12.0;
const MIN_VOICE_DBM0: f64 = -45.0;
/// The estimate of the noise follows louder frames slowly and softer ones at once.
const NOISE_RISE_DB: f64 = 0.04;
/// A line never seems quieter than this.
const MIN_NOISE_DBM0: f64 = -65.0;
/// Noise that no voice stays below.
const MAX_NOISE_DBM0: f64 = -35.0;
/// Beeps of machines; the network's tones and fax tones are not among them.
const BEEP_MS: std::ops::RangeInclusive<u32> = 140..=2500;
const BEEP_HZ: std::ops::RangeInclusive<f64> = 300.0..=2600.0;
/// A beep keeps its pitch.
const BEEP_STEADY_HZ: f64 = 12.0;
/// Silence after a beep that makes sure it was one, not a held vowel or a melody.
const AFTER_BEEP_MS: u32 = 100;

/// Judges one answer, from the moment of the answer on.
#[derive(Debug)]
pub struct AnswerDetector {
    times: AnswerTimes,
    elapsed_ms: u32,
    noise_dbm0: f64,
    /// Of the voice that lasts now.
    word_ms: u32,
    silence_ms: u32,
    /// From the first word to the end of the last.
    greeting_ms: u32,
    has_word: bool,
    judged: Option<Answer>,
    beep: Beep,
}

#[derive(Debug, Default)]
struct Beep {
    hz: f64,
    ms: u32,
    after_ms: u32,
}

impl AnswerDetector {
    /// A detector for an answer that happens now.
    #[must_use]
    pub fn new(times: AnswerTimes) -> Self {
        Self {
            times,
            elapsed_ms: 0,
            noise_dbm0: MIN_NOISE_DBM0,
            word_ms: 0,
            silence_ms: 0,
            greeting_ms: 0,
            has_word: false,
            judged: None,
            beep: Beep::default(),
        }
    }

    /// Takes the next 20 ms. One judgement comes, and beeps after it, when it was not a person.
    pub fn hear(&mut self, heard: &Heard) -> Option<Answer> {
        self.elapsed_ms = self.elapsed_ms.saturating_add(FRAME_MS);
        let voice = self.is_voice(heard.level_dbm0);
        if self.judged == Some(Answer::Person) {
            return None;
        }
        if self.beep.ended(heard, voice) {
            self.judged = Some(Answer::Beep);
            return self.judged;
        }
        if self.judged.is_some() {
            return None;
        }
        // A pure tone is no word: it is a beep, or the network's.
        self.listen(voice && heard.tone_hz.is_none());
        self.judged = self.judge();
        self.judged
    }

    fn is_voice(&mut self, level_dbm0: f64) -> bool {
        let voice = level_dbm0 > (self.noise_dbm0 + VOICE_OVER_NOISE_DB).max(MIN_VOICE_DBM0);
        let rise = if voice { NOISE_RISE_DB } else { 10.0 * NOISE_RISE_DB };
        self.noise_dbm0 =
            level_dbm0.min(self.noise_dbm0 + rise).clamp(MIN_NOISE_DBM0, MAX_NOISE_DBM0);
        voice
    }

    fn listen(&mut self, voice: bool) {
        if voice {
            self.word_ms += FRAME_MS;
            if self.word_ms >= self.times.min_word_ms {
                if self.has_word {
                    self.greeting_ms += self.silence_ms;
                    self.greeting_ms += if self.silence_ms > 0 { self.word_ms } else { FRAME_MS };
                } else {
                    self.greeting_ms = self.word_ms;
                }
                self.has_word = true;
                self.silence_ms = 0;
            }
        } else {
            // What was too short for a word belongs to the silence.
            let was_word = self.word_ms >= self.times.min_word_ms;
            self.silence_ms += if was_word { FRAME_MS } else { self.word_ms + FRAME_MS };
            self.word_ms = 0;
        }
    }

    fn judge(&self) -> Option<Answer> {
        let times = &self.times;
        if !self.has_word {
            return (self.elapsed_ms >= times.initial_silence_ms).then_some(Answer::Silence);
        }
        if self.greeting_ms >= times.greeting_ms {
            return Some(Answer::Machine);
        }
        if self.silence_ms >= times.after_greeting_ms {
            return Some(Answer::Person);
        }
        (self.elapsed_ms >= times.total_ms).then_some(Answer::Unsure)
    }
}

impl Beep {
    /// Whether a beep has just been followed by silence.
    fn ended(&mut self, heard: &Heard, voice: bool) -> bool {
        let pitch = heard.tone_hz.filter(|hz| voice && BEEP_HZ.contains(hz) && !is_network(*hz));
        if let Some(hz) = pitch {
            let same = self.after_ms == 0 && (hz - self.hz).abs() <= BEEP_STEADY_HZ;
            *self = Self { hz, ms: if same { self.ms + FRAME_MS } else { FRAME_MS }, after_ms: 0 };
            return false;
        }
        if self.ms == 0 {
            return false;
        }
        // The frame in which it ends may hold a piece of it.
        self.after_ms += FRAME_MS;
        if voice && self.after_ms > FRAME_MS {
            *self = Self::default();
            return false;
        }
        let ended = self.after_ms >= AFTER_BEEP_MS && BEEP_MS.contains(&self.ms);
        if self.after_ms >= AFTER_BEEP_MS {
            *self = Self::default();
        }
        ended
    }
}

/// The tones of the network's plan and of fax machines have detectors of their own.
fn is_network(hz: f64) -> bool {
    [(450.0, 35.0), (1100.0, 45.0), (2100.0, 25.0)]
        .into_iter()
        .any(|(centre, off): (f64, f64)| (hz - centre).abs() <= off)
}

#[cfg(test)]
mod tests;
