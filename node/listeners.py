"""Ports to listen at: taken ones are told before anything else has been started."""

from __future__ import annotations

import socket
from typing import Literal

from domain.failures import Code, PlatformError

Purpose = Literal["sip", "grpc", "http"]


def bound_listener(purpose: Purpose, host: str, port: int) -> socket.socket:
    """Bind a TCP socket, or say which port of which section is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise cannot_listen(purpose, host, port, error) from error
    return listener


def cannot_listen(
    purpose: Purpose, host: str, port: int, error: OSError | RuntimeError
) -> PlatformError:
    """The error of a port that cannot be had, with its remedy."""
    reason = getattr(error, "strerror", None) or str(error)
    return PlatformError(
        Code.CONFIG_INVALID,
        f"{purpose} cannot listen at {host}:{port}: {reason}; stop what uses the port "
        f"(ss -lntup 'sport = :{port}' names it), or choose another with --{purpose}-port",
    )


def check_port(purpose: Purpose, transport: str, host: str, port: int) -> None:
    """Raise PlatformError CONFIG_INVALID where the port cannot be had."""
    if transport != "udp":
        bound_listener(purpose, host, port).close()
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            raise cannot_listen(purpose, host, port, error) from error
