"""A small HTTP server of objects that misbehaves as it is told, and notes every request: what a client may claim."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import obstore
from obstore.store import MemoryStore

from setup_data import presets, write

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A request, and the answer's status and bytes of its body."""

    method: str
    path: str
    """Decoded, without the query."""
    range: str
    status: int
    nbytes: int


@dataclass
class Origin:
    """What the server holds and how it answers."""

    objects: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """By path, decoded."""
    spoil: Callable[["Handler"], bool] = lambda _: False
    """Answers in place of the server where it returns True."""
    seen: list[Answered] = field(default_factory=list, repr=False)
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, ranges and suffix ranges."""

    protocol_version = "HTTP/1.1"
    origin: Origin

    @property
    def key(self) -> str:
        """The path that was asked for, decoded."""
        return unquote(self.path.partition("?")[0])

    @property
    def asked(self) -> str:
        """The range that was asked for."""
        return self.headers.get("Range", "")

    def do_GET(self) -> None:
        """Answer from the objects."""
        if self.origin.spoil(self):
            return
        found = self.origin.objects.get(self.key)
        if found is None:
            self.answer(404)
            return
        asked = _RANGE.fullmatch(self.asked)
        if asked is None:
            self.answer(200, found)
            return
        begin = max(0, len(found) - int(asked[2])) if not asked[1] else int(asked[1])
        end = min(len(found), int(asked[2]) + 1) if asked[1] and asked[2] else len(found)
        self.answer(206, found[begin:end], content_range=f"bytes {begin}-{end - 1}/{len(found)}")

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer and note it."""
        sent = 0 if self.command == "HEAD" else len(body)
        self.origin.seen.append(
            Answered(method=self.command, path=self.key, range=self.asked, status=status, nbytes=sent)
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Fri, 01 Jan 2021 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.end_headers()
        if sent:
            with contextlib.suppress(OSError):  # a client need not wait for what it will not use
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(origin: Origin) -> Iterator[Origin]:
    """Serve `origin` at its ``address``."""
    handler = type("Bound", (Handler,), {"origin": origin})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        origin.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield origin
        finally:
            server.shutdown()
            thread.join()


def tiny(name: str) -> dict[str, bytes]:
    """Return the objects of a data set of the preset `tiny`, by their keys below the array's, and its manifest."""
    store = MemoryStore()
    (spec,) = presets.specs("tiny", (name,))
    write.write(store, spec)
    keys = [meta["path"] for meta in obstore.list(store).collect()]
    return {key: bytes(obstore.get(store, key).bytes()) for key in keys}
