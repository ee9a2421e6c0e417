"""HTTP/1.1 for the replay: keep-alive connections, one thread each, one write per response."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import ThreadingHTTPServer
from socketserver import StreamRequestHandler, TCPServer
from typing import Final

from etl.demo.replies import Reply, Silence

Answer = Callable[[str, str, Mapping[str, str]], Reply | Silence]
"""(verb, target, headers with lower-case names) to what goes back."""

_LONGEST_LINE: Final = 65_536


class Server(ThreadingHTTPServer):
    """Answers on a loopback address by `answer`. Raises OSError when the port is taken."""

    request_queue_size = 128

    def __init__(self, answer: Answer, host: str, port: int) -> None:
        self.answer = answer
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Bind without the name look-up of HTTPServer, which may take seconds."""
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event."""

    def opened(self, connection: socket.socket) -> None:
        """Remember a connection that `end_connections` is to end."""
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._open.discard(connection)

    def end_connections(self) -> None:
        """End all connections, so that no client waits for a server that is gone."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class Handler(StreamRequestHandler):
    """One connection: reads requests until either side has enough.

    It parses by hand what `BaseHTTPRequestHandler` parses as e-mail, at a fraction of the time.
    """

    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Tell the server of the connection."""
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        """Tell the server that the connection has ended."""
        self.server.closed(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        """Answer request after request."""
        with contextlib.suppress(ConnectionError):
            while self._exchange():
                pass

    def _exchange(self) -> bool:
        """One request and its response; False when the connection is to close."""
        parts = self.rfile.readline(_LONGEST_LINE).decode("latin-1").split()
        if len(parts) != 3:
            return False
        verb, target, version = parts
        headers = self._headers()
        keep = (
            verb == "GET"
            and version == "HTTP/1.1"
            and headers.get("connection", "").lower() != "close"
        )
        reply = self.server.answer(verb, target, headers)
        if isinstance(reply, Silence):
            return False
        keep = keep and not reply.missing
        self.wfile.write(reply.encode(keep=keep))
        return keep

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self.rfile.readline(_LONGEST_LINE).decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers
