"""A server on loopback that passes another one's answers on, bent in some way, as servers out there have them."""

import http.client
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What goes back for a GET."""

    status: int
    headers: dict[str, str]
    body: bytes


Bend = Callable[[Answer, str], Answer]
"""Takes the answer and the range that was asked for, empty for none."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    origin: str
    bend: Callable[..., Answer]
    head: int

    def do_GET(self):
        asked = self.headers.get("Range", "")
        origin = http.client.HTTPConnection(urlsplit(self.origin).netloc, timeout=30)
        origin.request("GET", self.path, headers={"Range": asked} if asked else {})
        response = origin.getresponse()
        kept = ("Content-Range", "ETag", "Last-Modified", "Content-Type")
        headers = {name: value for name in kept if (value := response.headers[name]) is not None}
        answer = type(self).bend(Answer(response.status, headers, response.read()), asked)
        origin.close()
        self.send_response(answer.status)
        for name, value in (answer.headers | {"Content-Length": str(len(answer.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def do_HEAD(self):
        self.send_response(self.head)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class _Server6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def unbent(answer: Answer, _asked: str) -> Answer:
    return answer


@contextmanager
def serving(origin: str, *, bend: Bend = unbent, head: int = 405, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve what ``http://host:port`` of `origin` serves, with its GETs' answers bent; HEAD is answered by `head`."""
    handler = type("Handler", (_Handler,), {"origin": origin, "bend": staticmethod(bend), "head": head})
    kind = _Server6 if ":" in host else http.server.ThreadingHTTPServer
    with kind((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silence() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield "http://{}:{}".format(*server.getsockname())
