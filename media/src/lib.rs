//! RTP media engine: one reactor thread moves every packet, two threads touch the disk.
//!
//! Modules without I/O (`rtp`, `codec`, `dtmf`, `jitter`, `wav`, `player`, `port`, `matrix`, `mixer`,
//! `wheel` and the like) are pure:
//! they take bytes and the time and give bytes and events. Sockets, clock and files are reached
//! only from `socket`, `clock`, `priority`, `loader`, `disk` and `reactor`.

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod answer;
pub mod clock;
pub mod codec;
pub mod disk;
pub mod dtmf;
pub mod dtmf_detector;
pub mod event;
pub mod figures;
pub mod g711;
pub mod handle;
pub mod jitter;
pub mod loader;
pub mod matrix;
pub mod mixer;
pub mod outbox;
pub mod player;
pub mod port;
pub mod priority;
pub mod progress;
pub mod quality;
pub mod reactor;
pub mod reception;
pub mod recognition;
pub mod recorder;
pub mod relay;
pub mod rtcp;
pub mod rtp;
pub mod secure;
#[cfg(test)]
mod simulator;
pub mod single_tone;
pub mod socket;
pub mod sound;
pub mod tone;
pub mod wav;
pub mod wheel;

#[cfg(feature = "python")]
mod engine;
#[cfg(test)]
mod test_noise;
#[cfg(test)]
mod test_tone;
