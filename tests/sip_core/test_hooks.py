"""What the endpoint asks its guard and its edge, and whom it believes about a sender."""

from ipaddress import ip_network

from cti.sip.defence.guard import DROP, PASS
from cti.sip.messages.message import Request, Response
from cti.sip.transports.transport import Hop
from tests.sip_core.messages import answer, request
from tests.sip_core.network import Make, Peer, accept_all


class Doorman:
    def __init__(self) -> None:
        self.bans = 0
        self.verdicts: dict[str, int] = {}
        self.judged: list[tuple[str, str]] = []
        self.malformed: list[Hop] = []
        self.broken: list[Hop] = []

    def is_banned(self, host: str) -> bool:
        self.bans -= 1
        return self.bans >= 0

    def judge(self, request: Request, hop: Hop, source: str, now_s: float) -> int:
        self.judged.append((request.call_id, source))
        return self.verdicts.get(request.call_id, PASS)

    def on_malformed(self, hop: Hop) -> None:
        self.malformed.append(hop)

    def on_broken_stream(self, hop: Hop) -> None:
        self.broken.append(hop)


class Relay:
    branch_prefix = "z9hG4bKedge"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.responses: list[Response] = []

    def take_request(self, request: Request, source: Hop) -> bool:
        self.requests.append(request)
        return "mine" in (request.headers.get("Route") or "")

    def take_response(self, response: Response) -> bool:
        self.responses.append(response)
        return True


async def test_the_guard_lets_in_refuses_or_drops(make: Make, peer: Peer) -> None:
    server, hop = await make()
    seen = accept_all(server)
    guard = server.guard = Doorman()
    guard.verdicts = {"refused": 503, "dropped": DROP}
    own = f"127.0.0.1:{peer.port}"
    for call_id in ("dropped", "refused", "welcome", "welcome"):
        peer.send(request(sent_by=own, branch=f"z9hG4bK{call_id}", call_id=call_id), hop)
    refusal = await peer.response()
    assert (refusal.status, refusal.call_id) == (503, "refused")
    assert refusal.headers.get("Retry-After")
    assert (await peer.response()).call_id == "welcome"
    assert (await peer.response()).call_id == "welcome"
    # The retransmission was not judged again, and what was refused has left no state.
    assert [each for each, _ in guard.judged] == ["dropped", "refused", "welcome"]
    assert seen.qsize() == server.transaction_count == 1


async def test_banned_datagrams_are_not_read_and_malformed_ones_are_told(
    make: Make, peer: Peer
) -> None:
    server, hop = await make()
    accept_all(server)
    guard = server.guard = Doorman()
    guard.bans = 2  # datagrams, then it is over
    own = f"127.0.0.1:{peer.port}"
    peer.send(request(sent_by=own, branch="z9hG4bKone"), hop)
    for _ in range(2):
        peer.send(b"INVITE that is nothing\r\n\r\n", hop)
    peer.send(request(sent_by=own, branch="z9hG4bKtwo"), hop)
    assert (await peer.response()).top_via.branch == "z9hG4bKtwo"
    assert [each.port for each in guard.malformed] == [peer.port]


async def test_a_cancel_of_what_was_let_in_is_not_judged(make: Make, peer: Peer) -> None:
    server, hop = await make()
    server.on_request = lambda t: t.respond(answer(t.request, 180))
    guard = server.guard = Doorman()
    own = f"127.0.0.1:{peer.port}"
    peer.send(request("INVITE", sent_by=own), hop)
    await peer.response()
    guard.verdicts = {"call-1": 503}
    peer.send(request("CANCEL", sent_by=own), hop)
    assert (await peer.response()).status == 200


async def test_only_a_trusted_proxy_tells_the_sender(make: Make, peer: Peer) -> None:
    own = f"127.0.0.1:{peer.port}"
    for trusted, stated, source in (
        ((), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.0/8",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8",), "[2001:db8:0::1]", "2001:db8::1"),
        (("127.0.0.0/8",), "::ffff:203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8",), "the moon", "127.0.0.1"),
        (("10.0.0.0/8", "::/0"), "203.0.113.9", "127.0.0.1"),
    ):
        server, hop = await make(trusted_proxies=[ip_network(each) for each in trusted])
        seen = accept_all(server)
        guard = server.guard = Doorman()
        asked = request(sent_by=own)
        asked.headers.set("X-Source-Address", stated)
        peer.send(asked, hop)
        await peer.response()
        transaction = await seen.get()
        assert transaction.source == source
        assert guard.judged == [("call-1", source)]
        if source == "127.0.0.1":
            assert "X-Source-Address" not in transaction.request.headers


async def test_the_edge_takes_what_only_passes_through(make: Make, peer: Peer) -> None:
    server, hop = await make()
    accept_all(server)
    edge = server.edge = Relay()
    own = f"127.0.0.1:{peer.port}"
    for branch, route in (("z9hG4bK1", "<sip:mine;lr>"), ("z9hG4bK2", "<sip:other;lr>")):
        asked = request(sent_by=own, branch=branch)
        asked.headers.set("Route", route)
        peer.send(asked, hop)
    peer.send(answer(request(branch="z9hG4bKedge-1"), 200), hop)
    peer.send(request(sent_by=own, branch="z9hG4bK3"), hop)
    assert [(await peer.response()).top_via.branch for _ in range(2)] == ["z9hG4bK2", "z9hG4bK3"]
    assert len(edge.requests) == 2
    assert len(edge.responses) == 1
