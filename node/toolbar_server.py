"""The gRPC server that toolbars and other programs connect to."""

from __future__ import annotations

from typing import Protocol

import grpc.aio

from node.listeners import bound_listener, cannot_listen

_OPTIONS = (
    # Two instances on one port would share toolbars between them without a word.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 256 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class GrpcService(Protocol):
    """What a server serves."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""


class ToolbarServer:
    """Serves the agents' service, and those of other programs."""

    def __init__(self, *services: GrpcService, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server = grpc.aio.server(options=_OPTIONS)
        for service in services:
            service.add_to(self._server)

    async def start(self) -> tuple[str, int]:
        """Listen and serve; PlatformError CONFIG_INVALID where the port is taken."""
        # gRPC logs a failure to bind in its own words; ask the kernel first.
        bound_listener("grpc", self._host, self._port).close()
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            port = self._server.add_insecure_port(f"{host}:{self._port}")
        except RuntimeError as error:
            raise cannot_listen("grpc", self._host, self._port, error) from error
        await self._server.start()
        return self._host, port

    async def stop(self, *, grace_s: float = 0.5) -> None:
        """End the streams and stop."""
        await self._server.stop(grace_s)
