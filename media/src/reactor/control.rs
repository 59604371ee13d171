//! The commands: everything the reactor does that is not moving packets.

use std::path::PathBuf;
use std::time::Duration;

use rustix::event::epoll;

use super::reading::watch;
use super::{Entry, Reactor, faults};
use crate::clock::{self, Now};
use crate::event::{Command, Event, PlayId, PortId, RecognitionId};
use crate::loader;
use crate::port::{Port, ReportStart, StreamStart};
use crate::rtp::{RtpTimestamp, SequenceNumber, Ssrc};
use crate::socket::PortSockets;

impl Reactor {
    /// Obeys all commands that wait.
    pub(super) fn obey(&mut self, now: Now) {
        let commands = self.shared.commands.clone();
        for command in commands.drain() {
            if faults::caught(|| self.execute(command, now)).is_none() {
                self.shared.figures.faults.add(1);
            }
        }
    }

    fn execute(&mut self, command: Command, now: Now) {
        match command {
            Command::Open(id, sockets) => self.open(id, sockets),
            Command::Close(id) => self.close(id, now),
            Command::Connect(id, connection) => {
                if let Some(key) = self.port_keys.get(&id) {
                    let identity = &self.shared.identity;
                    self.ports[*key].connect(connection, identity, now, &mut self.events);
                }
            }
            Command::Play(id, play, paths, looped) => {
                self.play(id, play, loader::Source::Files(paths), looped);
            }
            Command::PlayTone(id, play, tone, looped) => {
                self.play(id, play, loader::Source::Tone(tone), looped);
            }
            Command::Loaded(id, play, clips) => {
                if let Some(key) = self.port_keys.get(&id) {
                    self.ports[*key].port.loaded(play, clips, &mut self.events);
                }
            }
            Command::Recognise(id, recognition, paths) => self.recognise(id, recognition, paths),
            Command::Learnt(id, recognition, sounds) => {
                if let Some(entry) = self.entry(id) {
                    let failed = entry.port.learnt(recognition, sounds);
                    self.events.extend(failed);
                }
            }
            Command::StopPlay(id) => {
                if let Some(key) = self.port_keys.get(&id) {
                    self.ports[*key].port.stop_play(&mut self.events);
                }
            }
            Command::SendDigits(id, digits, tone_ms, gap_ms) => {
                if let Some(key) = self.port_keys.get(&id) {
                    let port = &mut self.ports[*key].port;
                    port.send_digits(&digits, tone_ms, gap_ms, &mut self.events);
                }
            }
            Command::Relay(ends, timeout) => self.set_relay(ends, timeout, now),
            Command::SetRoutes(routes) => self.set_routes(&routes),
            Command::SetKeyRoutes(routes) => self.set_key_routes(&routes),
            Command::StartRecording(id, path, form, left, right) => {
                self.start_recording(id, path, form, &left, right.as_deref());
            }
            Command::SetRecordingSides(id, left, right) => {
                self.set_recording_sides(id, &left, &right);
            }
            Command::PauseRecording(id, paused) => self.pause_recording(id, paused),
            Command::StartTap(id, left, right) => self.start_tap(id, &left, &right),
            Command::SetTapSides(id, left, right) => self.set_tap_sides(id, &left, &right),
            Command::StopTap(id) => self.stop_tap(id),
            Command::StopRecording(id) => self.stop_recording(id),
            Command::Survey => {
                let received = |entry: &Entry| entry.port.figures().packets_received;
                let counts = self.port_keys.iter();
                let counts = counts.map(|(id, key)| (*id, received(&self.ports[*key]))).collect();
                self.events.push(Event::Surveyed(counts));
            }
            Command::Shutdown => self.stopping = true,
        }
    }

    fn entry(&mut self, id: PortId) -> Option<&mut Entry> {
        self.port_keys.get(&id).and_then(|key| self.ports.get_mut(*key))
    }

    fn open(&mut self, id: PortId, sockets: PortSockets) {
        let entry = self.ports.vacant_entry();
        // Without epoll's memory a port is read at its ticks, and its reports are not.
        let is_watched = watch(&self.epoll, &sockets.media, entry.key());
        let _watched = watch(&self.reports_epoll, &sockets.reports, entry.key());
        let emptiest = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.ports.len());
        let slot = emptiest.map_or(0, |(index, _)| index);
        self.slots[slot].ports.push(entry.key());
        self.port_keys.insert(id, entry.key());
        let (stream, reports) = starts(self.behind_1900);
        entry.insert(Entry::new(Port::new(id, stream, reports), sockets, slot, is_watched));
        self.shared.figures.ports.set(self.ports.len() as u64);
    }

    pub(super) fn close(&mut self, id: PortId, now: Now) {
        let Some(key) = self.port_keys.remove(&id) else { return };
        self.leave_routes(key);
        self.leave_key_routes(key);
        let relayed = self.ports[key].relay.as_ref().map(|relay| relay.figures());
        self.end_relay(key, None);
        // A port that is closed for a panic says nothing more if its last words panic, too.
        let (entry, sending) = (&mut self.ports[key], &mut self.sending);
        let _said = faults::caught(|| entry.close(key, now, sending));
        self.flush(None);
        let mut entry = self.ports.remove(key);
        self.slots[entry.slot].ports.retain(|port| *port != key);
        entry.port.stop_play(&mut self.events);
        let figures = relayed.unwrap_or_else(|| entry.port.figures());
        self.events.push(Event::PortClosed(id, figures));
        // A forked child may hold the socket, and then closing it alone would not do.
        let _removed = epoll::delete(&self.epoll, &entry.sockets.media);
        let _removed = epoll::delete(&self.reports_epoll, &entry.sockets.reports);
        if let Ok(mut numbers) = self.shared.numbers.lock() {
            numbers.rest(entry.sockets.media.port(), now);
        }
        self.shared.figures.ports.set(self.ports.len() as u64);
    }

    fn play(&mut self, id: PortId, play: PlayId, what: loader::Source, looped: bool) {
        let Some(entry) = self.entry(id) else { return };
        entry.port.play(play, looped);
        let codec = entry.port.codec();
        let _sent = self.loads.send(loader::Request::Play(id, play, codec, what));
    }

    fn recognise(&mut self, id: PortId, recognition: RecognitionId, paths: Vec<PathBuf>) {
        let Some(entry) = self.entry(id) else { return };
        entry.port.recognise((!paths.is_empty()).then_some(recognition));
        if !paths.is_empty() {
            let _sent = self.loads.send(loader::Request::Recognise(id, recognition, paths));
        }
    }

    /// Finishes recordings, ends taps and closes ports.
    pub(super) fn close_all(&mut self) {
        let recordings: Vec<_> = self.recording_keys.keys().copied().collect();
        for id in recordings {
            self.stop_recording(id);
        }
        let taps: Vec<_> = self.tap_keys.keys().copied().collect();
        for id in taps {
            self.stop_tap(id);
        }
        let ports: Vec<_> = self.port_keys.keys().copied().collect();
        let now = clock::now();
        for id in ports {
            self.close(id, now);
        }
    }
}

/// Random start values; a kernel without randomness falls back on the clock.
fn starts(behind_1900: Duration) -> (StreamStart, ReportStart) {
    let mut random = [0; 22];
    if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).is_err() {
        random[..8].copy_from_slice(&(clock::now().as_nanos() as u64).to_ne_bytes());
    }
    let [a, b, c, d, e, f, g, h, i, j, name @ ..] = random;
    let stream = StreamStart {
        ssrc: Ssrc(u32::from_ne_bytes([a, b, c, d])),
        timestamp: RtpTimestamp(u32::from_ne_bytes([e, f, g, h])),
        // From the lower half: whoever misses the first packets of SRTP still guesses the right
        // rollover counter, RFC 3711 section 3.3.1.
        sequence: SequenceNumber(u16::from_ne_bytes([i, j]) >> 1),
    };
    (stream, ReportStart { random: name, behind_1900 })
}
