"""TLS: who is believed, who is not, and what becomes of those who drip (RFC 5922)."""

import asyncio
import contextlib
import os
import ssl
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import Request, Response
from cti.sip.transports.tls import TlsError, TlsLayer, identities
from cti.sip.transports.tls_files import Tls, TlsFileError, VerifyClient
from cti.sip.transports.transport import ConnectionLimits, Hop
from domain.failures import Code
from tests.sip_core.certificates import Authority
from tests.sip_core.messages import answer, request
from tests.sip_core.network import WAIT_S, Make, Outcome, accept_all, counted
from tests.sip_core.test_hooks import Doorman


def named(hop: Hop, name: str) -> Hop:
    return Hop(hop.transport, hop.host, hop.port, name=name)


async def outcome_of(client_tls: Tls, server_tls: Tls, make: Make, name: str = "") -> int | Code:
    server, hop = await make("tls", tls=server_tls)
    accept_all(server)
    client, _ = await make("tcp", tls=client_tls)
    outcome = Outcome()
    outcome.start(client, request(via=False), named(hop, name) if name else hop)
    result = await outcome.next()
    return result.status if isinstance(result, Response) else result


async def test_addresses_and_names_are_verified(make: Make, authority: Authority) -> None:
    server = authority.tls("127.0.0.1", "sip.carrier.test")
    client = authority.tls()
    assert await outcome_of(client, server, make) == 200
    assert await outcome_of(client, server, make, "SIP.Carrier.test") == 200


@pytest.mark.parametrize(
    ("names", "expired", "fault"),
    [
        (("127.0.0.2", "other.test"), False, "wrong_name"),
        (("*.test",), False, "wrong_name"),
        (("127.0.0.1", "carrier.test"), True, "expired"),
    ],
)
async def test_wrong_certificates_are_transport_errors(
    make: Make, authority: Authority, names: tuple[str, ...], expired: bool, fault: str
) -> None:
    before = counted("sip_tls_faults_total", reason=fault)
    server = authority.tls(*names, expired=expired)
    assert await outcome_of(authority.tls(), server, make, "carrier.test") is Code.SIP_TRANSPORT
    assert counted("sip_tls_faults_total", reason=fault) == before + 1


async def test_an_unknown_authority_is_told_once_a_minute(
    make: Make, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)
    server, hop = await make("tls", tls=stranger.tls("127.0.0.1"))
    client, _ = await make("tcp", tls=authority.tls())
    guard = server.guard = Doorman()
    before = counted("sip_tls_faults_total", reason="untrusted")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            outcome = Outcome()
            outcome.start(client, request(via=False), hop)
            assert await outcome.next() is Code.SIP_TRANSPORT
    ours = [each for each in logs if each["event"] == "sip_tls_failed" and not each["accepted"]]
    assert [each["reason"] for each in ours] == ["untrusted"]
    assert counted("sip_tls_faults_total", reason="untrusted") == before + 3
    assert not guard.broken


async def test_client_certificates(make: Make, authority: Authority, tmp_path: Path) -> None:
    server_tls = authority.tls("127.0.0.1", verify_client=VerifyClient.REQUIRED)
    stranger = Authority(tmp_path)
    assert await outcome_of(authority.tls("carrier.test"), server_tls, make) == 200
    assert await outcome_of(authority.tls(), server_tls, make) is Code.SIP_TRANSPORT
    unknown = Tls(certificate=stranger.issue("carrier.test"), ca=authority.ca_file)
    assert await outcome_of(unknown, server_tls, make) is Code.SIP_TRANSPORT
    optional = authority.tls("127.0.0.1", verify_client=VerifyClient.OPTIONAL)
    assert await outcome_of(authority.tls(), optional, make) == 200


async def test_the_peers_identity_is_known(make: Make, authority: Authority) -> None:
    server, hop = await make(
        "tls", tls=authority.tls("127.0.0.1", verify_client=VerifyClient.OPTIONAL)
    )
    seen = accept_all(server)
    for tls, expected in (
        (authority.tls("carrier.test"), {"carrier.test"}),
        (authority.tls(), set()),
    ):
        client, _ = await make("tcp", tls=tls)
        outcome = Outcome()
        outcome.start(client, request(via=False), hop)
        assert await outcome.status() == 200
        assert server.identities_of((await seen.get()).hop) == expected


def test_identities_are_those_of_rfc_5922() -> None:
    assert identities({
        "subject": ((("commonName", "old.test"),),),
        "subjectAltName": (
            ("URI", "sip:Carrier.test"), ("URI", "sip:alice@person.test"), ("URI", "https://x.test"),
            ("DNS", "host.test"), ("IP Address", "2001:DB8:0:0:0:0:0:1"),
        ),
    }) == {"carrier.test", "2001:db8::1"}  # fmt: skip
    assert identities({"subject": ((("commonName", "Old.test"),),)}) == {"old.test"}
    assert identities({"subjectAltName": (("DNS", "a.test."), ("DNS", "b.test"))}) == {
        "a.test", "b.test",
    }  # fmt: skip


async def test_certificates_are_read_again_without_dropping_connections(
    make: Make, authority: Authority
) -> None:
    file = authority.issue("127.0.0.1", file="renewed.pem")
    tls = Tls(certificate=file, ca=authority.ca_file)
    server, hop = await make("tls", tls=tls)
    seen = accept_all(server)
    old_client, _ = await make("tcp", tls=authority.tls())
    serials = []
    for client in (old_client, (await make("tcp", tls=authority.tls()))[0], old_client):
        outcome = Outcome()
        outcome.start(client, request(via=False), hop)
        assert await outcome.status() == 200
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        _, writer = await asyncio.open_connection(hop.host, hop.port, ssl=context)
        serials.append(writer.get_extra_info("peercert")["serialNumber"])
        writer.close()
        authority.issue("127.0.0.1", file="renewed.pem")
        tls.reload()
    assert len(set(serials)) == 3
    connections = [(await seen.get()).hop.connection for _ in range(3)]
    assert connections[0] == connections[2]


def test_files_that_cannot_be_used_name_place_reason_and_remedy(
    authority: Authority, tmp_path: Path
) -> None:
    good = authority.issue("127.0.0.1", file="good.pem")
    other = authority.issue("127.0.0.1", file="other.pem")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not PEM")
    certificate_only = tmp_path / "certificate.pem"
    certificate_only.write_text(good.read_text().partition("-----BEGIN CERT")[2].join(
        ["-----BEGIN CERT", ""]
    ))  # fmt: skip
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(_encrypted(good.read_bytes()))
    tls = Tls(certificate=good)
    for fields, field in (
        ({"certificate": tmp_path / "missing.pem"}, "certificate"),
        ({"certificate": tmp_path}, "certificate"),
        ({"certificate": nonsense}, "certificate"),
        ({"certificate": certificate_only}, "key"),
        ({"certificate": certificate_only, "key": nonsense}, "key"),
        ({"certificate": certificate_only, "key": other}, "key"),
        ({"certificate": certificate_only, "key": encrypted}, "key"),
        ({"certificate": good, "ca": nonsense}, "ca"),
        (
            {"certificate": good, "client_ca": nonsense, "verify_client": VerifyClient.REQUIRED},
            "client_ca",
        ),
    ):
        with pytest.raises(TlsFileError) as caught:
            Tls(**fields)
        assert caught.value.field == field, fields
        assert caught.value.code is Code.CONFIG_INVALID
        assert str(list(fields.values())[-1]) in caught.value.reason.en or field == "client_ca"
        assert caught.value.remedy.zh
    context = tls.server
    good.write_text("gone")
    with pytest.raises(TlsFileError):
        tls.reload()
    assert tls.server is context


def _encrypted(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@given(data=st.data())
def test_what_goes_in_comes_out_in_any_pieces(own_tls: Tls, data: st.DataObject) -> None:
    assert own_tls.server is not None
    server = TlsLayer(own_tls.server)
    client = TlsLayer(own_tls.client, peer_name="127.0.0.1")
    client.start()
    texts = data.draw(st.lists(st.binary(min_size=1, max_size=2000), max_size=4))
    heard = b""
    waiting = list(texts)
    for _ in range(6):
        if client.is_ready:
            while waiting:
                client.send(waiting.pop(0))
        stream = client.output()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            heard += server.receive(stream[start:end])
        assert client.receive(server.output()) == b""
    assert heard == b"".join(texts)
    client.end()
    server.receive(client.output())
    assert server.has_ended


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_nonsense_raises_nothing_else(own_tls: Tls, pieces: list[bytes]) -> None:
    assert own_tls.server is not None
    server = TlsLayer(own_tls.server)
    with contextlib.suppress(TlsError):
        for piece in pieces:
            assert server.receive(piece) == b""
    assert not server.is_ready


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01", b"OPTIONS sip:x SIP/2.0\r\n\r\n"])
async def test_who_does_not_come_to_the_point_is_cut_off_and_told(make: Make, start: bytes) -> None:
    server, hop = await make("tls", limits=ConnectionLimits(message_s=0.1))
    guard = server.guard = Doorman()
    reader, writer = await asyncio.open_connection(hop.host, hop.port)
    writer.write(start)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), WAIT_S)
    assert [each.transport for each in guard.broken] == ["tls"]
    writer.close()


async def test_an_openssl_client_that_drips_a_message(make: Make, authority: Authority) -> None:
    server, hop = await make("tls", limits=ConnectionLimits(message_s=0.3))
    guard = server.guard = Doorman()
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", authority.ca_file),
        *("-connect", f"{hop.host}:{hop.port}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert process.stdin is not None
    process.stdin.write(request(transport="TLS").to_bytes()[:-10])
    await process.stdin.drain()
    await asyncio.wait_for(process.wait(), WAIT_S)
    assert [each.host for each in guard.broken] == ["127.0.0.1"]


async def test_a_lost_connection_fails_what_waits_and_is_replaced(make: Make) -> None:
    client, back = await make("tls")
    server, hop = await make("tls")
    seen = accept_all(server)
    for _ in range(2):
        outcome = Outcome()
        outcome.start(client, request(via=False), hop)
        assert await outcome.status() == 200
        source = (await seen.get()).hop
        # The server asks back over the connection it was asked on, then the connection dies.
        waiting: asyncio.Queue[Request] = asyncio.Queue()
        client.on_request = lambda t, waiting=waiting: waiting.put_nowait(t.request)  # type: ignore[misc]
        question = Outcome()
        question.start(server, request(via=False, call_id="back"), source)
        await asyncio.wait_for(waiting.get(), WAIT_S)
        server._transports._pool._connections[source.connection].abort()
        assert await question.next() is Code.SIP_TRANSPORT
    assert back.port != hop.port


async def test_a_response_takes_a_new_connection_when_its_own_is_gone(make: Make) -> None:
    """RFC 3261 18.2.2; the new one goes to the port of the Via, where the client listens."""
    client, _ = await make("tls")
    server, hop = await make("tls")
    waiting: asyncio.Queue[ServerTransaction] = asyncio.Queue()
    server.on_request = waiting.put_nowait
    outcome = Outcome()
    outcome.start(client, request("INVITE", via=False), hop)
    transaction = await asyncio.wait_for(waiting.get(), WAIT_S)
    transaction.respond(answer(transaction.request, 180))
    assert await outcome.status() == 180
    connection = server._transports._pool._connections[transaction.hop.connection]
    connection.abort()
    await connection.closed
    transaction.respond(answer(transaction.request, 486))
    assert await outcome.status() == 486
