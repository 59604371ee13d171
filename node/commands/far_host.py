"""Hosts on a command line: SIP hops are addresses, people also write names."""

from __future__ import annotations

import socket

import typer


def address_of(host: str) -> str:
    """Return the IPv4 address of a name or address; says what to write where there is none."""
    try:
        found = socket.getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        raise typer.BadParameter(
            f"{host}: 找不到这台主机 · no such host; write an IPv4 address or a known name"
        ) from None
    return str(found[0][4][0])
