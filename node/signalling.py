"""The SIP sockets of a node, from its configuration: listeners, certificates, names, proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import structlog

from cti.settings import SipSettings, TlsSettings
from cti.sip.endpoint import SipEndpoint
from cti.sip.location.next_hop import NameLookups
from cti.sip.location.outbound_proxy import OutboundProxy
from cti.sip.location.resolver import Resolver
from cti.sip.messages.uri import SipUri
from cti.sip.transports.tls_files import Tls, TlsFileError, VerifyClient
from cti.sip.transports.transport import SECURE
from domain.failures import PlatformError
from domain.words import Words
from node.listeners import cannot_listen

log = structlog.get_logger(__name__)

_PROXY_REFRESH_S = 30.0


class Signalling:
    """An endpoint, and what keeps its names and certificates up to date."""

    def __init__(self, settings: SipSettings, directory: Path) -> None:
        """`directory` is where the paths of certificates start. Raises TlsFileError."""
        self._settings = settings
        self._tls = None if settings.tls is None else load_tls(settings.tls, directory)
        hosts = [one.host for one in settings.listen]
        self.resolver = Resolver(
            settings.dns_servers,
            transports=list(dict.fromkeys(one.transport for one in settings.listen)),
            ipv4=any(":" not in host for host in hosts),
            ipv6=any(":" in host for host in hosts),
        )
        self.endpoint = SipEndpoint(
            user_agent=settings.user_agent,
            advertised_host=settings.advertised_host,
            trusted_proxies=settings.trusted_proxies,
            tls=self._tls,
            web_origins=settings.web_origins,
        )
        self.endpoint.names = NameLookups(self.resolver)
        self._refreshing: asyncio.Task[None] | None = None
        if settings.outbound_proxy is not None:
            proxy = OutboundProxy(SipUri.parse(settings.outbound_proxy))
            self.endpoint.outbound_proxy = proxy
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(proxy))

    async def listen(self) -> dict[str, str]:
        """Open all listeners; return where they are. The last step of a start: calls come in."""
        addresses = {}
        for one in self._settings.listen:
            try:
                host, port = await self.endpoint.listen(
                    one.transport, one.host, one.port, advertised_host=one.advertised_host
                )
            except PlatformError as error:
                if isinstance(error.__cause__, OSError):
                    raise cannot_listen("sip", one.host, one.port, error.__cause__) from error
                raise
            shown = f"[{host}]" if ":" in host else host
            addresses[f"sip/{one.transport}"] = f"{shown}:{port}"
        return addresses

    def reload_certificates(self) -> None:
        """Read the files again; connections that stand go on. Raises TlsFileError."""
        if self._tls is not None:
            self._tls.reload()

    async def aclose(self) -> None:
        """Close all sockets."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self.resolver.aclose()
        await self.endpoint.aclose()

    async def _refresh(self, proxy: OutboundProxy) -> None:
        while True:
            with contextlib.suppress(PlatformError):  # the resolver has told of it
                proxy.update(await self.resolver.locate(proxy.uri))
            await asyncio.sleep(_PROXY_REFRESH_S)


def load_tls(settings: TlsSettings, directory: Path) -> Tls:
    """Load the files that settings name; raises TlsFileError."""

    def place(path: Path | None) -> Path | None:
        return None if path is None else (directory / path).resolve()

    return Tls(
        certificate=place(settings.certificate),
        key=place(settings.key),
        ca=place(settings.ca),
        client_ca=place(settings.client_ca),
        verify_client=settings.verify_client,
    )


def tls_problems(
    settings: SipSettings, directory: Path
) -> Iterator[tuple[tuple[str | int, ...], Words, Words]]:
    """Yield place, reason and remedy of what is wrong with certificates."""
    tls = settings.tls
    for at, one in enumerate(settings.listen):
        if one.transport in SECURE and (tls is None or tls.certificate is None):
            yield (
                ("sip", "listen", at),
                Words(f"{one.transport} 需要证书", f"{one.transport} needs a certificate"),
                Words("写 sip.tls.certificate 和 key", "give sip.tls.certificate and key"),
            )
    if tls is None:
        return
    if tls.verify_client is not VerifyClient.NO and tls.client_ca is None:
        yield (
            ("sip", "tls", "verify_client"),
            Words("没有验证对端证书的 CA", "there is no authority to verify peers by"),
            Words("写 sip.tls.client_ca", "give sip.tls.client_ca"),
        )
    try:
        load_tls(tls, directory)
    except TlsFileError as error:
        yield ("sip", "tls", error.field), error.reason, error.remedy
