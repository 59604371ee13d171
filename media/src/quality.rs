//! How well a stream sounds: the E-model of ITU-T G.107, with what RTP tells of a call.
//!
//! Of the model are kept delay (Idd) and the loss of packets (Ie,eff); the other impairments have
//! their default values, which make 93.2 of the basic rating. The result is MOS-CQE.

use std::time::Duration;

use crate::codec::Codec;
use crate::reception::Counts;

/// The rating of a call over G.711 without delay and loss, by the defaults of G.107 table 2.
const BASIC_RATING: f64 = 93.2;

/// What a codec costs and how well its concealment stands losses.
#[derive(Clone, Copy, Debug)]
struct Impairment {
    /// Ie of G.113 appendix I.
    equipment: f64,
    /// Bpl of G.113 appendix I: the larger, the more losses it stands.
    robustness: f64,
}

fn impairment(codec: Codec) -> Impairment {
    let (equipment, robustness) = match codec {
        // With concealment by appendix I of G.711 in packets of 10 ms.
        Codec::Pcma | Codec::Pcmu => (0.0, 25.1),
        // G.729A in frames of 20 ms.
        Codec::G729 => (11.0, 19.0),
        // Not in G.113's narrowband tables. Both are at least as good as G.711 where they are
        // heard narrowband; the robustness is assumed, as that of G.711.
        Codec::G722 | Codec::Opus => (0.0, 25.1),
    };
    Impairment { equipment, robustness }
}

/// The transmission rating R, 0 to 93.2.
///
/// `loss` is the share of packets lost or late, `burst_ratio` how much longer their bursts are than
/// by chance, `delay` from mouth to ear.
#[must_use]
pub fn rating(codec: Codec, loss: f64, burst_ratio: f64, delay: Duration) -> f64 {
    let Impairment { equipment, robustness } = impairment(codec);
    let loss_percent = 100.0 * loss.clamp(0.0, 1.0);
    let spread_loss = loss_percent / burst_ratio.max(1.0);
    // G.107 section 7.2, equation 7-29.
    let with_loss = equipment + (95.0 - equipment) * loss_percent / (spread_loss + robustness);
    (BASIC_RATING - delay_impairment(delay) - with_loss).max(0.0)
}

/// Idd of G.107 equations 7-27 and 7-28: what delay costs a conversation without echo.
fn delay_impairment(delay: Duration) -> f64 {
    let delay_ms = delay.as_secs_f64() * 1000.0;
    if delay_ms <= 100.0 {
        return 0.0;
    }
    let x = (delay_ms / 100.0).log2();
    25.0 * ((1.0 + x.powi(6)).powf(1.0 / 6.0) - 3.0 * (1.0 + (x / 3.0).powi(6)).powf(1.0 / 6.0)
        + 2.0)
}

/// Mean opinion score of a rating, G.107 annex B: 1.0 to 4.5.
#[must_use]
pub fn mos(rating: f64) -> f64 {
    let r = rating.clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

/// The scores of a stream over its intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    counts: Counts,
    discarded: u64,
    /// Sum of the ratings and their number.
    ratings: f64,
    intervals: u32,
    worst: Option<f64>,
}

impl Quality {
    /// Judges the time since the last call of this function; an interval in which nothing was sent
    /// says nothing.
    pub fn judge(&mut self, codec: Codec, counts: Counts, discarded: u64, delay: Duration) {
        let interval = counts.since(self.counts);
        let late = (discarded - self.discarded.min(discarded)) as f64;
        self.counts = counts;
        self.discarded = discarded;
        if interval.expected <= 0 {
            return;
        }
        let expected = interval.expected as f64;
        let lost = interval.lost() as f64;
        let loss = (lost + late) / expected;
        // Of the mean length of bursts and that which chance would make, 1 / (1 - loss).
        let bursts = interval.gaps as f64 + late;
        let burst_ratio = if bursts > 0.0 { (lost + late) / bursts * (1.0 - loss) } else { 1.0 };
        let rating = rating(codec, loss, burst_ratio, delay);
        self.ratings += rating;
        self.intervals += 1;
        self.worst = Some(self.worst.map_or(rating, |worst| worst.min(rating)));
    }

    /// Score over the whole call; None before the first interval.
    #[must_use]
    pub fn mos(&self) -> Option<f64> {
        (self.intervals > 0).then(|| mos(self.ratings / f64::from(self.intervals)))
    }

    /// Score of the worst interval.
    #[must_use]
    pub fn worst_mos(&self) -> Option<f64> {
        self.worst.map(mos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn score(codec: Codec, loss: f64, delay_ms: u32) -> f64 {
        mos(rating(codec, loss, 1.0, delay_ms * MS))
    }

    #[test]
    fn scores_are_those_of_the_model() {
        let expected = [
            (Codec::Pcma, 0.0, 50, 4.41),
            (Codec::Pcma, 0.01, 50, 4.33),
            (Codec::Pcma, 0.05, 50, 3.92),
            (Codec::Pcmu, 0.0, 200, 4.34),
            (Codec::Pcmu, 0.0, 400, 3.56),
            (Codec::G729, 0.0, 50, 4.10),
            (Codec::G729, 0.02, 50, 3.79),
        ];
        for (codec, loss, delay_ms, mos) in expected {
            let got = score(codec, loss, delay_ms);
            assert!((got - mos).abs() < 0.02, "{codec:?} {loss} {delay_ms}: {got:.3}");
        }
        assert_eq!(mos(0.0), 1.0);
        assert_eq!(mos(100.0), 4.5);
    }

    #[test]
    fn more_loss_delay_and_burstiness_never_sound_better() {
        for codec in Codec::ALL {
            for percent in 0..100u32 {
                let loss = f64::from(percent) / 100.0;
                let more = loss + 0.01;
                assert!(rating(codec, more, 1.0, MS) <= rating(codec, loss, 1.0, MS));
                let delay = MS * percent * 10;
                let longer = delay + 10 * MS;
                assert!(rating(codec, 0.0, 1.0, longer) <= rating(codec, 0.0, 1.0, delay));
                assert!(rating(codec, loss, 3.0, MS) <= rating(codec, loss, 1.0, MS));
            }
        }
    }

    #[test]
    fn a_call_has_an_average_and_a_worst_interval() {
        let mut quality = Quality::default();
        assert_eq!((quality.mos(), quality.worst_mos()), (None, None));
        let mut counts = Counts::default();
        for lost in [0, 0, 25, 0] {
            counts.expected += 250;
            counts.received += 250 - lost;
            counts.gaps += lost.unsigned_abs();
            quality.judge(Codec::Pcma, counts, 0, 50 * MS);
        }
        quality.judge(Codec::Pcma, counts, 0, 50 * MS); // a pause
        let (mean, worst) = (quality.mos().unwrap(), quality.worst_mos().unwrap());
        assert!((worst - score(Codec::Pcma, 0.1, 50)).abs() < 0.01);
        assert!(worst < mean && mean < 4.40);
        let mut late = Quality::default();
        late.judge(Codec::Pcma, Counts { expected: 250, received: 250, gaps: 0 }, 25, 50 * MS);
        assert!((late.mos().unwrap() - worst).abs() < 0.01, "late is as bad as lost");
    }
}
