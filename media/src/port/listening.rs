//! What is listened for in the audio of a port: keys, tones of the network and of fax machines, who
//! has answered, and known sounds.

use std::sync::Arc;
use std::time::Duration;

use crate::answer::{AnswerDetector, AnswerTimes};
use crate::clock::Now;
use crate::codec::{PCM_SAMPLES, Pcm};
use crate::dtmf_detector::DtmfDetector;
use crate::event::{Detect, DigitSource, Event, PortId, RecognitionId};
use crate::g711::FRAME_MS;
use crate::progress::{ProgressDetector, Signal};
use crate::recognition::{Recognition, Reference};
use crate::single_tone;

/// A key by RFC 4733 that comes so soon after the same key was heard in the audio is that key: a
/// gateway has let the beginning of its tone through.
const SAME_PRESS: Duration = Duration::from_millis(300);

/// The detectors of one port; made only where somebody asked for them.
#[derive(Debug)]
pub struct Listening {
    detect: Detect,
    keys: DtmfDetector,
    progress: ProgressDetector,
    answer: AnswerDetector,
    recognition: Option<(RecognitionId, Recognition)>,
    heard_ms: u64,
    round: Option<u64>,
    last_key: Option<(char, Now)>,
}

impl Listening {
    /// What was asked for, from now on.
    #[must_use]
    pub fn to(detect: Detect) -> Self {
        Self {
            detect,
            keys: DtmfDetector::default(),
            progress: ProgressDetector::default(),
            answer: AnswerDetector::new(AnswerTimes::default()),
            recognition: None,
            heard_ms: 0,
            round: None,
            last_key: None,
        }
    }

    /// Whether nothing is listened for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.detect == Detect::default() && self.recognition.is_none()
    }

    /// Listens for known sounds, from now on and until one is recognised, or for none.
    pub fn recognise(&mut self, sounds: Option<(RecognitionId, Vec<Arc<Reference>>)>) {
        self.recognition = sounds.map(|(id, sounds)| (id, Recognition::new(sounds)));
    }

    /// Asks for something else. What goes on goes on; an answer is judged from the moment on in
    /// which it is asked for.
    pub fn change(&mut self, detect: Detect) {
        if detect.answer && !self.detect.answer {
            self.answer = AnswerDetector::new(AnswerTimes::default());
            self.heard_ms = 0;
        }
        self.detect = detect;
    }

    /// Takes what was heard in a round; nothing is silence. `has_events` says whether the far end
    /// sends its keys by RFC 4733, which makes those in the audio the same ones once more.
    pub fn hear(
        &mut self,
        port: PortId,
        round: u64,
        pcm: Option<&Pcm>,
        has_events: bool,
        now: Now,
        events: &mut Vec<Event>,
    ) {
        if self.round.replace(round) == Some(round) {
            return;
        }
        self.heard_ms += u64::from(FRAME_MS);
        if let Some((id, recognition)) = &mut self.recognition
            && let Some(recognised) = recognition.hear(pcm)
        {
            events.push(Event::Recognised(port, *id, recognised));
            self.recognition = None;
        }
        let pcm = pcm.unwrap_or(&[0; PCM_SAMPLES]);
        if self.detect.keys
            && let Some(press) = self.keys.hear(pcm)
            && !has_events
        {
            self.last_key = Some((press.key, now));
            events.push(Event::Digit(port, press.key, press.duration_ms, DigitSource::Inband));
        }
        if !(self.detect.progress || self.detect.fax || self.detect.answer) {
            return;
        }
        let heard = single_tone::measure(pcm);
        if let Some(signal) = self.progress.hear(&heard) {
            let wanted = if is_fax(signal) { self.detect.fax } else { self.detect.progress };
            if wanted {
                events.push(Event::Tone(port, signal, self.heard_ms));
            }
        }
        if self.detect.answer
            && let Some(answer) = self.answer.hear(&heard)
        {
            events.push(Event::Answer(port, answer, self.heard_ms));
        }
    }

    /// Whether a key that comes by RFC 4733 has been reported already.
    #[must_use]
    pub fn has_reported(&self, key: char, now: Now) -> bool {
        self.last_key.is_some_and(|(last, at)| last == key && now.saturating_sub(at) < SAME_PRESS)
    }
}

fn is_fax(signal: Signal) -> bool {
    matches!(signal, Signal::FaxCalling | Signal::FaxAnswer | Signal::ModemAnswer)
}
