// A small phone: SIP over WebSocket (RFC 7118), one registration and one call at a time.
"use strict";

const PATIENCE_MS = 30000;

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (octet) => octet.toString(16)).join("");
}

async function sha256(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (octet) => octet.toString(16).padStart(2, "0")).join("");
}

class Message {
  constructor(start, headers = [], body = "") {
    this.start = start;
    this.headers = headers;
    this.body = body;
  }

  static parse(text) {
    const end = text.indexOf("\r\n\r\n");
    const [start, ...rows] = text.slice(0, end).split("\r\n");
    const headers = rows.map((row) => {
      const colon = row.indexOf(":");
      return [row.slice(0, colon).trim(), row.slice(colon + 1).trim()];
    });
    return new Message(start, headers, text.slice(end + 4));
  }

  all(name) {
    return this.headers.filter(([own]) => own.toLowerCase() === name).map(([, value]) => value);
  }

  get(name) {
    return this.all(name)[0] ?? "";
  }

  get status() {
    return this.start.startsWith("SIP/2.0 ") ? Number(this.start.split(" ")[1]) : 0;
  }

  get method() {
    return this.status ? this.get("cseq").split(" ")[1] : this.start.split(" ")[0];
  }

  toString() {
    const length = new TextEncoder().encode(this.body).length;
    const rows = [...this.headers, ["Content-Length", length]].map(([name, value]) => `${name}: ${value}`);
    return [this.start, ...rows, "", this.body].join("\r\n");
  }
}

function uriOf(address) {
  return /<([^>]*)>/.exec(address)?.[1] ?? address;
}

class Phone {
  constructor(server, domain, user, password) {
    Object.assign(this, { server, domain, user, password });
    this.address = `<sip:${user}@${domain}>`;
    this.host = `${random()}.invalid`;
    this.contact = `<sip:${user}@${this.host};transport=ws>`;
    this.responses = [];
    this.waiting = [];
    this.requests = [];
    this.cseq = 0;
  }

  async connect() {
    this.socket = new WebSocket(this.server, "sip");
    this.socket.onmessage = ({ data }) => this.take(Message.parse(data));
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onerror = reject;
    });
  }

  send(message) {
    this.socket.send(message.toString());
  }

  take(message) {
    const box = message.status ? this.responses : this.requests;
    if (message.method === "OPTIONS" && !message.status) return this.respond(message, 200);
    if (message.method === "BYE" && !message.status) this.hasEnded = true;
    if (message.method === "BYE" && !message.status) return this.respond(message, 200);
    box.push(message);
    this.waiting.splice(0).forEach((wake) => wake());
  }

  // The first message that fits, now or later.
  async expect(box, fits, what) {
    const until = performance.now() + PATIENCE_MS;
    for (;;) {
      const index = box.findIndex(fits);
      if (index >= 0) return box.splice(index, 1)[0];
      if (performance.now() > until) throw new Error(`no ${what}`);
      await new Promise((resolve) => {
        this.waiting.push(resolve);
        setTimeout(resolve, 1000);
      });
    }
  }

  request(method, uri, { from, to, callId, routes = [], cseq = ++this.cseq, extra = [], body = "" }) {
    return new Message(`${method} ${uri} SIP/2.0`, [
      ["Via", `SIP/2.0/WS ${this.host};branch=z9hG4bK${random()}`],
      ["Max-Forwards", "70"],
      ["From", from],
      ["To", to],
      ["Call-ID", callId],
      ["CSeq", `${cseq} ${method}`],
      ...routes.map((route) => ["Route", route]),
      ...extra,
      ...(body ? [["Content-Type", "application/sdp"]] : []),
    ], body);
  }

  // Sends a request, again with credentials when asked for them; gives it and its final answer.
  async ask(method, uri, parts) {
    const request = this.request(method, uri, parts);
    this.send(request);
    const answer = await this.final(request);
    if (answer.status !== 401) return [request, answer];
    if (method === "INVITE") this.acknowledge(request, answer);
    const extra = [...parts.extra, ["Authorization", await this.credentials(method, uri, answer)]];
    const again = this.request(method, uri, { ...parts, extra });
    this.send(again);
    return [again, await this.final(again)];
  }

  final(request) {
    const cseq = request.get("cseq");
    const fits = (each) => each.get("cseq") === cseq && each.status >= 200;
    return this.expect(this.responses, fits, `answer to ${cseq}`);
  }

  async credentials(method, uri, answer) {
    const challenge = answer.all("www-authenticate").find((each) => each.includes("SHA-256"));
    const value = (name) => new RegExp(`\\b${name}="([^"]*)"`).exec(challenge)?.[1];
    const [realm, nonce, opaque] = [value("realm"), value("nonce"), value("opaque")];
    const [nc, cnonce] = ["00000001", random()];
    const ha1 = await sha256(`${this.user}:${realm}:${this.password}`);
    const ha2 = await sha256(`${method}:${uri}`);
    const response = await sha256([ha1, nonce, nc, cnonce, "auth", ha2].join(":"));
    return `Digest username="${this.user}", realm="${realm}", nonce="${nonce}", uri="${uri}", `
      + `response="${response}", algorithm=SHA-256, qop=auth, nc=${nc}, cnonce="${cnonce}"`
      + (opaque === undefined ? "" : `, opaque="${opaque}"`);
  }

  async register() {
    const [, answer] = await this.ask("REGISTER", `sip:${this.domain}`, {
      from: `${this.address};tag=${random()}`,
      to: this.address,
      callId: random(),
      extra: [["Contact", `${this.contact};expires=120`]],
    });
    return answer.status;
  }

  async dial(number, voice) {
    const uri = `sip:${number}@${this.domain}`;
    const parts = {
      from: `${this.address};tag=${random()}`,
      to: `<${uri}>`,
      callId: random(),
      extra: [["Contact", this.contact]],
      body: await voice.offer(),
    };
    const [invite, answer] = await this.ask("INVITE", uri, parts);
    if (answer.status !== 200) {
      this.acknowledge(invite, answer);
      return answer.status;
    }
    this.call = {
      from: parts.from,
      to: answer.get("to"),
      callId: parts.callId,
      target: uriOf(answer.get("contact")),
      routes: answer.all("record-route").reverse(),
    };
    const cseq = Number(invite.get("cseq").split(" ")[0]);
    this.send(this.request("ACK", this.call.target, { ...this.call, cseq }));
    await voice.take(answer.body);
    return answer.status;
  }

  acknowledge(invite, answer) {
    const cseq = Number(invite.get("cseq").split(" ")[0]);
    const ack = this.request("ACK", invite.start.split(" ")[1], {
      from: invite.get("from"), to: answer.get("to"), callId: invite.get("call-id"), cseq,
    });
    ack.headers[0][1] = invite.get("via");
    this.send(ack);
  }

  // Waits for a call, rings, and answers it.
  async answer(voice) {
    const isInvite = (each) => each.method === "INVITE";
    const invite = await this.expect(this.requests, isInvite, "call");
    this.tag = random();
    this.respond(invite, 180);
    this.call = {
      from: `${invite.get("to")};tag=${this.tag}`,
      to: invite.get("from"),
      callId: invite.get("call-id"),
      target: uriOf(invite.get("contact")),
      routes: invite.all("record-route"),
    };
    this.respond(invite, 200, await voice.answer(invite.body));
    await this.expect(this.requests, (each) => each.method === "ACK", "ACK");
    return invite.body;
  }

  respond(request, status, body = "") {
    const copied = ["Via", "Record-Route", "From", "Call-ID", "CSeq"];
    const to = request.get("to");
    this.send(new Message(`SIP/2.0 ${status} ${status < 200 ? "Ringing" : "OK"}`, [
      ...copied.flatMap((name) => request.all(name.toLowerCase()).map((value) => [name, value])),
      ["To", to.includes("tag=") ? to : `${to};tag=${this.tag}`],
      ["Contact", this.contact],
      ...(body ? [["Content-Type", "application/sdp"]] : []),
    ], body));
  }

  async hangUp() {
    const [, answer] = await this.ask("BYE", this.call.target, { ...this.call, extra: [] });
    return answer.status;
  }
}

window.Phone = Phone;
