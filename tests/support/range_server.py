"""A local web server that honours Range, and can be told to cut off, ignore or refuse."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Shop:
    """What is served, how, and what was asked."""

    content: bytes
    stop_after: int | None = None
    """Bytes after which the first answer stops."""
    stall: bool = False
    """Whether a stopped answer hangs until `released`, instead of closing."""
    ignores_range: bool = False
    status: int = 200
    released: Event = field(default_factory=Event)
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each request."""
    sent: list[int] = field(default_factory=list)
    """The bytes of each answer."""


@contextmanager
def serve(shop: Shop) -> Iterator[str]:
    """Serve on this machine and give the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            shop.ranges.append(asked)
            self.close_connection = True
            if shop.status != 200:
                self.send_error(shop.status)
                return
            found = re.fullmatch(r"bytes=(\d+)-", asked or "")
            start = int(found[1]) if found and not shop.ignores_range else 0
            size = len(shop.content)
            if found and not shop.ignores_range and start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = shop.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            stop, shop.stop_after = shop.stop_after, None
            part = body if stop is None else body[:stop]
            shop.sent.append(len(part))
            self.wfile.write(part)
            self.wfile.flush()
            if stop is not None and shop.stall:
                shop.released.wait(30)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/spots.npz"
    finally:
        shop.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
