// One call's audio in the page: a tone of our own out, and what is heard looked at.
"use strict";

class Voice {
  constructor(toneHz, codec) {
    this.audio = new AudioContext();
    this.analyser = this.audio.createAnalyser();
    this.analyser.fftSize = 4096;
    this.connection = new RTCPeerConnection();
    this.states = [];
    this.connection.onconnectionstatechange = () => this.states.push(this.connection.connectionState);
    const oscillator = this.audio.createOscillator();
    oscillator.frequency.value = toneHz;
    const gain = this.audio.createGain();
    gain.gain.value = 0.5;
    const out = this.audio.createMediaStreamDestination();
    oscillator.connect(gain).connect(out);
    oscillator.start();
    const track = out.stream.getAudioTracks()[0];
    this.connection.ontrack = (event) => this.hear(event.streams[0] ?? new MediaStream([event.track]));
    this.sender = this.connection.addTrack(track, out.stream);
    this.codec = codec;
  }

  // Chromium moves a far end's audio only while an element takes it.
  hear(stream) {
    this.element = new Audio();
    this.element.muted = true;
    this.element.srcObject = stream;
    this.element.play();
    this.audio.createMediaStreamSource(stream).connect(this.analyser);
  }

  // One codec, and no comfort noise: a steady tone is taken for it.
  prefer() {
    const wanted = [this.codec, "telephone-event"].map((name) => `audio/${name}`.toLowerCase());
    const codecs = RTCRtpReceiver.getCapabilities("audio").codecs;
    const chosen = codecs.filter((each) => wanted.includes(each.mimeType.toLowerCase()));
    if (this.codec) this.connection.getTransceivers()[0].setCodecPreferences(chosen);
  }

  async described(description) {
    await this.connection.setLocalDescription(description);
    if (this.connection.iceGatheringState !== "complete") {
      await new Promise((resolve) => {
        this.connection.onicegatheringstatechange = () =>
          this.connection.iceGatheringState === "complete" && resolve();
      });
    }
    return this.connection.localDescription.sdp;
  }

  async offer() {
    this.prefer();
    return this.described(await this.connection.createOffer());
  }

  async take(answer) {
    await this.connection.setRemoteDescription({ type: "answer", sdp: answer });
  }

  async answer(offer) {
    await this.connection.setRemoteDescription({ type: "offer", sdp: offer });
    this.prefer();
    return this.described(await this.connection.createAnswer());
  }

  // The loudest frequency of what is heard, once it is louder than -60 dB.
  async heard(wantedHz, patienceMs) {
    const bins = new Float32Array(this.analyser.frequencyBinCount);
    const binHz = this.audio.sampleRate / this.analyser.fftSize;
    const until = performance.now() + patienceMs;
    let loudest = { hz: 0, db: -Infinity };
    while (performance.now() < until) {
      this.analyser.getFloatFrequencyData(bins);
      const index = bins.indexOf(Math.max(...bins));
      loudest = { hz: index * binHz, db: bins[index] };
      if (loudest.db > -60 && Math.abs(loudest.hz - wantedHz) <= 2 * binHz) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return loudest;
  }

  // The loudest there is, once it is loud: words have no one frequency.
  async speech(patienceMs) {
    const until = performance.now() + patienceMs;
    let loudest = { hz: 0, db: -Infinity };
    while (performance.now() < until && loudest.db < -50) {
      const now = await this.heard(0, 60);
      if (now.db > loudest.db) loudest = now;
    }
    return loudest;
  }

  // Waits until as many packets of our tone have left.
  async spoke(packets, patienceMs) {
    const until = performance.now() + patienceMs;
    let sent = 0;
    while (sent < packets && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      for (const report of (await this.connection.getStats()).values()) {
        if (report.type === "outbound-rtp") sent = report.packetsSent;
      }
    }
    return sent;
  }

  // Waits until our reports have told the browser how its stream arrives.
  async reported(patienceMs) {
    const until = performance.now() + patienceMs;
    while (performance.now() < until) {
      const facts = await this.facts();
      if (facts.roundTripS !== undefined) return facts;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    return await this.facts();
  }

  press(keys) {
    this.sender.dtmf.insertDTMF(keys, 120, 80);
  }

  async facts() {
    const facts = { states: this.states, ice: this.connection.iceConnectionState };
    for (const report of (await this.connection.getStats()).values()) {
      if (report.type === "transport") {
        Object.assign(facts, {
          dtls: report.dtlsState, srtp: report.srtpCipher, tls: report.tlsVersion,
        });
      } else if (report.type === "inbound-rtp") {
        Object.assign(facts, { received: report.packetsReceived, lost: report.packetsLost });
      } else if (report.type === "remote-inbound-rtp") {
        Object.assign(facts, { roundTripS: report.roundTripTime, lostThere: report.packetsLost });
      } else if (report.type === "codec") {
        facts.codec = report.mimeType;
      }
    }
    return facts;
  }

  async close() {
    this.connection.close();
    await this.audio.close();
  }
}

window.Voice = Voice;
