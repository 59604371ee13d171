//! The Python face: `cti._media.Engine`. No thread but the caller's ever holds the GIL.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::codec::Codec;
use crate::event::{Command, Connection, Detect, Event, PortId, RecordingId, Rtcp, TapId};
use crate::g711::FRAME_MS;
use crate::handle::{EngineHandle, OpenError, PortRange};
use crate::rtp::Pt;
use crate::secure::certificate::Fingerprint;
use crate::secure::ice::Credentials;
use crate::secure::srtp::{MasterKey, Suite};
use crate::secure::{DtlsPeer, Security, dtls};
use crate::tone::Tone;
use crate::wav::Form;

pyo3::create_exception!(_media, PortsExhaustedError, PyOSError, "No RTP port is free.");

/// The media engine; see `cti.media.MediaEngine` for what the commands mean.
#[pyclass(frozen, module = "cti._media")]
struct Engine {
    handle: EngineHandle,
}

fn parse_ip(text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| PyValueError::new_err(format!("not an IP address: {text}")))
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (port_min, port_max, *, quarantine_ms = 2000))]
    fn new(port_min: u16, port_max: u16, quarantine_ms: u64) -> PyResult<Self> {
        let quarantine = Duration::from_millis(quarantine_ms);
        let range = PortRange { first: port_min, last: port_max, quarantine };
        Ok(Self { handle: EngineHandle::start(range)? })
    }

    fn open_port(&self, local_ip: &str) -> PyResult<(u64, u16)> {
        match self.handle.open_port(parse_ip(local_ip)?) {
            Ok((port, number)) => Ok((port.0, number)),
            Err(OpenError::Exhausted) => Err(PortsExhaustedError::new_err("no RTP port is free")),
            Err(OpenError::System(error)) => Err(error.into()),
        }
    }

    fn connect(&self, port: u64, connection: Negotiated) -> PyResult<()> {
        self.handle.connect(PortId(port), connection.check()?);
        Ok(())
    }

    fn close_port(&self, port: u64) {
        self.handle.send(Command::Close(PortId(port)));
    }

    #[pyo3(signature = (port, paths, *, r#loop = false))]
    fn play(&self, port: u64, paths: Vec<PathBuf>, r#loop: bool) -> u64 {
        self.handle.play(PortId(port), paths, r#loop).0
    }

    #[pyo3(signature = (port, tone, *, r#loop = true))]
    fn play_tone(&self, port: u64, tone: &str, r#loop: bool) -> PyResult<u64> {
        let tone = Tone::named(tone)
            .ok_or_else(|| PyValueError::new_err(format!("tone {tone} is not known")))?;
        Ok(self.handle.play_tone(PortId(port), tone, r#loop).0)
    }

    fn recognise(&self, port: u64, paths: Vec<PathBuf>) -> u64 {
        self.handle.recognise(PortId(port), paths).0
    }

    fn stop_play(&self, port: u64) {
        self.handle.send(Command::StopPlay(PortId(port)));
    }

    #[pyo3(signature = (port, digits, *, tone_ms, gap_ms))]
    fn send_digits(&self, port: u64, digits: String, tone_ms: u32, gap_ms: u32) {
        self.handle.send(Command::SendDigits(PortId(port), digits, tone_ms, gap_ms));
    }

    fn relay(
        &self,
        one: (u64, String, u16),
        other: (u64, String, u16),
        media_timeout_ms: u32,
    ) -> PyResult<()> {
        let end = |(port, ip, number): (u64, String, u16)| -> PyResult<_> {
            Ok((PortId(port), SocketAddr::new(parse_ip(&ip)?, number)))
        };
        let timeout = Duration::from_millis(media_timeout_ms.into());
        self.handle.send(Command::Relay([end(one)?, end(other)?], timeout));
        Ok(())
    }

    fn set_routes(&self, routes: HashMap<u64, Vec<u64>>) {
        let routes = routes.into_iter().map(|(sink, sources)| (PortId(sink), ids(sources)));
        self.handle.send(Command::SetRoutes(routes.collect()));
    }

    fn set_key_routes(&self, routes: HashMap<u64, Vec<u64>>) {
        let routes = routes.into_iter().map(|(sink, sources)| (PortId(sink), ids(sources)));
        self.handle.send(Command::SetKeyRoutes(routes.collect()));
    }

    fn start_recording(
        &self,
        path: PathBuf,
        left: Vec<u64>,
        right: Option<Vec<u64>>,
        a_law: bool,
    ) -> u64 {
        let form = if a_law { Form::ALaw } else { Form::Pcm16 };
        self.handle.start_recording(path, form, ids(left), right.map(ids)).0
    }

    fn set_recording_sides(&self, recording: u64, left: Vec<u64>, right: Vec<u64>) {
        let recording = RecordingId(recording);
        self.handle.send(Command::SetRecordingSides(recording, ids(left), ids(right)));
    }

    fn pause_recording(&self, recording: u64, paused: bool) {
        self.handle.send(Command::PauseRecording(RecordingId(recording), paused));
    }

    fn start_tap(&self, left: Vec<u64>, right: Vec<u64>) -> u64 {
        self.handle.start_tap(ids(left), ids(right)).0
    }

    fn set_tap_sides(&self, tap: u64, left: Vec<u64>, right: Vec<u64>) {
        self.handle.send(Command::SetTapSides(TapId(tap), ids(left), ids(right)));
    }

    fn stop_tap(&self, tap: u64) {
        self.handle.send(Command::StopTap(TapId(tap)));
    }

    fn stop_recording(&self, recording: u64) {
        self.handle.send(Command::StopRecording(RecordingId(recording)));
    }

    fn fingerprint(&self) -> String {
        self.handle.fingerprint()
    }

    fn survey(&self) {
        self.handle.send(Command::Survey);
    }

    fn event_fd(&self) -> i32 {
        self.handle.event_fd().as_raw_fd()
    }

    fn drain_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events = PyList::empty(py);
        for event in self.handle.drain_events() {
            events.append(as_tuple(py, event)?)?;
        }
        Ok(events)
    }

    fn figures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = PyDict::new(py);
        for (name, value) in self.handle.figures().all() {
            figures.set_item(name, value)?;
        }
        Ok(figures)
    }

    fn shutdown(&self, py: Python<'_>) {
        py.detach(|| self.handle.shutdown());
    }
}

fn in_ms(frames: u64) -> u64 {
    frames * u64::from(FRAME_MS)
}

fn ids(ports: Vec<u64>) -> Vec<PortId> {
    ports.into_iter().map(PortId).collect()
}

/// `cti.media.Connection`, by the names of its fields.
#[derive(FromPyObject)]
struct Negotiated {
    remote_ip: String,
    remote_port: i64,
    codec: String,
    payload_type: u8,
    digit_payload_type: Option<u8>,
    receive_payload_type: Option<u8>,
    receive_digit_payload_type: Option<u8>,
    packet_time_ms: u32,
    send: bool,
    receive: bool,
    media_timeout_ms: u32,
    rtcp_port: i64,
    rtcp_mux: bool,
    srtp: Option<Keys>,
    dtls: Option<Peer>,
    detect: HashSet<String>,
}

/// `cti.media.SrtpKeys`.
#[derive(FromPyObject)]
struct Keys {
    suite: String,
    local: Vec<u8>,
    remote: Vec<u8>,
}

impl Keys {
    fn check(&self) -> PyResult<Security> {
        let suite = Suite::of_name(&self.suite)
            .ok_or_else(|| PyValueError::new_err(format!("SRTP suite {}", self.suite)))?;
        let key = |octets: &[u8]| {
            MasterKey::new(suite, octets)
                .ok_or_else(|| PyValueError::new_err(format!("SRTP key of {}", octets.len())))
        };
        Ok(Security::Sdes(dtls::Keys { local: key(&self.local)?, remote: key(&self.remote)? }))
    }
}

/// `cti.media.DtlsPeer`.
#[derive(FromPyObject)]
struct Peer {
    fingerprint: String,
    local_ufrag: String,
    local_password: String,
    remote_ufrag: String,
    active: bool,
}

impl Peer {
    fn check(&self) -> PyResult<Security> {
        let fingerprint = Fingerprint::parse(&self.fingerprint)
            .ok_or_else(|| PyValueError::new_err(format!("fingerprint {}", self.fingerprint)))?;
        let credentials =
            Credentials::new(&self.local_ufrag, &self.local_password, &self.remote_ufrag);
        Ok(Security::Dtls(DtlsPeer { fingerprint, active: self.active, credentials }))
    }
}

impl Negotiated {
    fn check(self) -> PyResult<Connection> {
        let codec = Codec::of_name(&self.codec)
            .ok_or_else(|| PyValueError::new_err(format!("codec {} is not known", self.codec)))?;
        let security = match (&self.srtp, &self.dtls) {
            (None, None) => None,
            (Some(keys), None) => Some(keys.check()?),
            (None, Some(peer)) => Some(peer.check()?),
            (Some(_), Some(_)) => return Err(PyValueError::new_err("both SDES and DTLS")),
        };
        // A packet time is a wish, RFC 8866 section 6.4: it is met in steps of 10 ms.
        let packet_time_ms = (self.packet_time_ms / 10 * 10).clamp(10, 60) as u8;
        let port = u16::try_from(self.remote_port)
            .map_err(|_| PyValueError::new_err(format!("not a port: {}", self.remote_port)))?;
        let rtcp = match self.rtcp_port {
            _ if self.rtcp_mux => Rtcp::Shared,
            0 => port.checked_add(1).map_or(Rtcp::None, Rtcp::Port),
            // -1 is none; and what cannot be reached is not reported to.
            number => u16::try_from(number).map_or(Rtcp::None, Rtcp::Port),
        };
        Ok(Connection {
            remote: SocketAddr::new(parse_ip(&self.remote_ip)?, port),
            codec,
            payload_type: Pt(self.payload_type),
            digit_pt: self.digit_payload_type.map(Pt),
            heard_as: self
                .receive_payload_type
                .map(|pt| (Pt(pt), self.receive_digit_payload_type.map(Pt))),
            packet_time_ms,
            send: self.send,
            receive: self.receive,
            media_timeout_ms: self.media_timeout_ms,
            security,
            detect: detect(&self.detect)?,
            rtcp,
        })
    }
}

fn detect(names: &HashSet<String>) -> PyResult<Detect> {
    let mut detect = Detect::default();
    for name in names {
        match name.as_str() {
            "dtmf" => detect.keys = true,
            "fax" => detect.fax = true,
            "progress" => detect.progress = true,
            "answer" => detect.answer = true,
            _ => return Err(PyValueError::new_err(format!("nothing detects {name}"))),
        }
    }
    Ok(detect)
}

/// An event as its kind and the fields of its class in `cti.media`, in order.
fn as_tuple(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        Event::Digit(port, key, duration_ms, source) => {
            ("digit", port.0, key, duration_ms, source.name()).into_pyobject(py)
        }
        Event::Tone(port, signal, at_ms) => {
            ("tone", port.0, signal.name(), at_ms).into_pyobject(py)
        }
        Event::Answer(port, answer, at_ms) => {
            ("answer", port.0, answer.name(), at_ms).into_pyobject(py)
        }
        Event::Recognised(port, recognition, heard) => {
            let times = (heard.began_ms, heard.at_ms);
            ("recognised", port.0, recognition.0, heard.sound, times.0, times.1).into_pyobject(py)
        }
        Event::RecognitionFailed(port, recognition, error) => {
            ("recognition_failed", port.0, recognition.0, error).into_pyobject(py)
        }
        Event::PlayEnded(port, play, completed, error) => {
            ("play_ended", port.0, play.0, completed, error).into_pyobject(py)
        }
        Event::DigitsSent(port) => ("digits_sent", port.0).into_pyobject(py),
        Event::MediaTimedOut(port) => ("media_timed_out", port.0).into_pyobject(py),
        Event::RecordingEnded(recording, summary) => (
            "recording_ended",
            recording.0,
            summary.path.to_string_lossy(),
            summary.sha256,
            summary.size_bytes,
            summary.duration_ms,
            summary.channels,
            summary.dropped_frames,
            PyTuple::new(py, summary.pauses_ms)?,
            summary.error,
        )
            .into_pyobject(py),
        Event::SecureMediaReady(port, suite) => {
            ("secure_media_ready", port.0, suite.name()).into_pyobject(py)
        }
        Event::SecureMediaFailed(port, failure) => {
            ("secure_media_failed", port.0, failure.name()).into_pyobject(py)
        }
        Event::TapAudio(tap, piece) => {
            let side = |index: usize| {
                let samples = piece.interleaved.chunks_exact(4);
                let side: Vec<u8> =
                    samples.flat_map(|both| [both[index], both[index + 1]]).collect();
                PyBytes::new(py, &side)
            };
            ("tap_audio", tap.0, in_ms(piece.first_frame), side(0), side(2)).into_pyobject(py)
        }
        Event::TapEnded(tap, total, dropped) => {
            ("tap_ended", tap.0, in_ms(total), in_ms(dropped)).into_pyobject(py)
        }
        Event::Failed => ("failed",).into_pyobject(py),
        Event::Surveyed(counts) => {
            let counts: Vec<_> = counts.into_iter().map(|(port, count)| (port.0, count)).collect();
            ("surveyed", counts).into_pyobject(py)
        }
        Event::PortClosed(port, figures) => {
            // In two parts: a tuple is made of at most twelve.
            let counted = (
                figures.packets_sent,
                figures.packets_received,
                figures.packets_lost,
                figures.packets_invalid,
                figures.jitter_ms,
                figures.packets_late,
                figures.packets_duplicate,
            );
            let judged = (
                figures.codec.map_or("", Codec::name),
                figures.round_trip_ms,
                figures.mos,
                figures.worst_mos,
                figures.far_packets_lost,
                figures.far_jitter_ms,
            );
            ("port_closed", port.0, counted, judged).into_pyobject(py)
        }
    }
}

#[pymodule]
mod _media {
    #[pymodule_export]
    use super::{Engine, PortsExhaustedError};
}
