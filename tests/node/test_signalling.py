"""A node's SIP sockets from its configuration, and every fault of certificates in its words."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from cti.settings import ListenSettings, SipSettings, TlsSettings
from cti.sip.transports.tls_files import TlsFileError
from cti.sip.transports.transport import Hop
from node.config import ConfigError, load_config
from node.signalling import Signalling
from tests.node.test_config import GOOD
from tests.sip_core.certificates import Authority
from tests.sip_core.messages import request
from tests.sip_core.network import Outcome, accept_all


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("127.0.0.1", "::1", file="node.pem")
    return made


def settings_of(authority: Authority, *listen: str, **fields: object) -> SipSettings:
    return SipSettings(
        listen=[ListenSettings(transport=each, port=0) for each in listen],
        tls=TlsSettings(certificate=Path("node.pem"), ca=authority.ca_file),
        **fields,
    )


async def test_all_transports_and_renewed_certificates(authority: Authority) -> None:
    names = ("udp", "tcp", "tls", "ws", "wss")
    signalling = Signalling(settings_of(authority, *names), authority.directory)
    addresses = await signalling.listen()
    assert list(addresses) == [f"sip/{each}" for each in names]
    serials = set()
    for name in ("tls", "wss"):
        host, _, port = addresses[f"sip/{name}"].rpartition(":")
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        serials.add(writer.get_extra_info("peercert")["serialNumber"])
        writer.close()
        authority.issue("127.0.0.1", file="node.pem")
        signalling.reload_certificates()
    assert len(serials) == 2
    (authority.directory / "node.pem").write_text("gone")
    with pytest.raises(TlsFileError):
        signalling.reload_certificates()
    await signalling.aclose()


async def test_calls_go_through_the_outbound_proxy(authority: Authority) -> None:
    proxy = Signalling(settings_of(authority, "tls"), authority.directory)
    _, _, port = (await proxy.listen())["sip/tls"].rpartition(":")
    seen = accept_all(proxy.endpoint)
    node = Signalling(
        settings_of(authority, "tls", outbound_proxy=f"sip:127.0.0.1:{port};transport=tls;lr"),
        authority.directory,
    )
    await node.listen()
    outcome = Outcome()
    outcome.start(node.endpoint, request(via=False), Hop("udp", "127.0.0.9", 9))
    assert await outcome.status() == 200
    asked = (await seen.get()).request
    assert asked.headers.get("Route") == f"<sip:127.0.0.1:{port};transport=tls;lr>"
    await node.aclose()
    await proxy.aclose()


SIP = """\
sip:
  listen:
    - {transport: tls, port: 5061}
    - {transport: wss, port: 5061}
  dns_servers: [192.0.2.53, "[2001:db8::53]:5353", 127.0.0.1:53]
"""


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ("", ["[sip.listen[0]] tls 需要证书", "wss needs a certificate"]),
        ("  tls: {certificate: none.pem}\n", ["[sip.tls.certificate]", "没有文件", "改正路径"]),
        ("  tls: {certificate: node.pem, ca: flows}\n", ["[sip.tls.ca]", "cannot be read"]),
        (
            "  tls: {certificate: node.pem, verify_client: required}\n",
            ["[sip.tls.verify_client]", "give sip.tls.client_ca"],
        ),
        ("  tls: {certificate: node.pem}\n", ["TCP 127.0.0.1:5061 用了 2 次"]),
        ("  tls: {certificate: [1], keys: 2}\n", ["[sip.tls.certificate]", "[sip.tls.keys]"]),
        ("  outbound_proxy: http://proxy.example\n", ["[sip.outbound_proxy]"]),
    ],
)
def test_what_is_wrong_is_told_with_place_reason_and_remedy(
    authority: Authority, tls: str, words: list[str]
) -> None:
    place = authority.directory / "platform.yaml"
    (authority.directory / "flows").mkdir()
    (authority.directory / "flows/hotline.yaml").write_text("")
    place.write_text(SIP + tls + GOOD)
    with pytest.raises(ConfigError) as caught:
        load_config(place)
    told = "\n".join(str(each) for each in caught.value.problems)
    for each in words:
        assert each in told


@pytest.mark.parametrize("server", ["ns.example", "192.0.2.53:0", "192.0.2.53:99999", "[::1]:x"])
def test_name_servers_are_addresses(server: str) -> None:
    with pytest.raises(ValueError, match="no address of a name server"):
        SipSettings(dns_servers=[server])
