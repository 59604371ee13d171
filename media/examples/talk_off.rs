//! Talk-off: how many keys the in-band detector hears in audio that holds none.
//!
//! Reads raw PCM16 of 8 kHz mono from standard input, brings the parts that are not silent to the
//! mean level given in dBm0 (ITU-T Q.24: NTT asks for -15, the Danish administration for -12), and
//! passes it through A-law: `... | talk_off -15`.

use std::io::{self, Read};

use _media::dtmf_detector::DtmfDetector;
use _media::g711::{FRAME_SAMPLES, Law};
use _media::tone::{level_of, peak_of};

/// Frames below this belong to pauses and do not count in the mean level.
const PAUSE_DBM0: f64 = -45.0;

fn mean_square(frame: &[i16]) -> f64 {
    frame.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / frame.len() as f64
}

fn main() -> io::Result<()> {
    let target_dbm0: f64 =
        std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(-15.0);
    let mut octets = Vec::new();
    io::stdin().lock().read_to_end(&mut octets)?;
    let samples: Vec<i16> =
        octets.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
    let frames = samples.as_chunks::<FRAME_SAMPLES>().0;
    let pause = peak_of(PAUSE_DBM0).powi(2) / 2.0;
    let loud: Vec<f64> =
        frames.iter().map(|frame| mean_square(frame)).filter(|square| *square > pause).collect();
    let mean = loud.iter().sum::<f64>() / loud.len().max(1) as f64;
    let gain = (peak_of(target_dbm0).powi(2) / 2.0 / mean.max(1.0)).sqrt();
    let mut detector = DtmfDetector::default();
    let mut hits = 0;
    for (index, frame) in frames.iter().enumerate() {
        let heard = frame
            .map(|sample| Law::A.decode(Law::A.encode((f64::from(sample) * gain).round() as i16)));
        if let Some(press) = detector.hear(&heard) {
            hits += 1;
            println!("{:9.2} s  {}  {} ms", index as f64 * 0.02, press.key, press.duration_ms);
        }
    }
    println!(
        "{:.2} h ({:.2} h of it not silent, {:.1} dBm0 brought to {target_dbm0}), {hits} hits",
        frames.len() as f64 / 180_000.0,
        loud.len() as f64 / 180_000.0,
        level_of(mean),
    );
    Ok(())
}
