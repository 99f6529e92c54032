"""HTTP requests below fsspec's stores: aiohttp's public tracing, tied to the store's `get` by a context variable."""

import re
from typing import Any

import aiohttp

from harness.timeline.zarr_python.events import CURRENT, Exchange, now

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")


def http_trace() -> aiohttp.TraceConfig:
    """Return a trace that notes each request of a recorded `get`; without a recording it does nothing.

    For a store of one's own over s3fs: ``config_kwargs={"http_session_cls": traced_session(http_trace())}`` among its
    options, with `harness.targets.tracing.traced_session`.
    """
    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(_started)
    trace.on_request_headers_sent.append(_sent)
    trace.on_request_end.append(_answered)
    return trace


async def _started(_session: Any, context: Any, params: aiohttp.TraceRequestStartParams) -> None:
    get = CURRENT.get()
    if get is not None:
        context.exchange = Exchange(params.method)
        get.exchanges.append(context.exchange)


async def _sent(_session: Any, context: Any, _params: aiohttp.TraceRequestHeadersSentParams) -> None:
    exchange = _exchange(context)
    if exchange is not None:
        exchange.sent_ns = now()


async def _answered(_session: Any, context: Any, params: aiohttp.TraceRequestEndParams) -> None:
    exchange = _exchange(context)
    if exchange is None:
        return
    exchange.headers_ns = now()
    response = params.response
    exchange.status = response.status
    exchange.nbytes = 0 if exchange.method == "HEAD" else response.content_length
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if found is not None:
        exchange.range = (int(found[1]), int(found[2]) + 1)

    def complete() -> None:
        exchange.last_byte_ns = now()

    response.content.on_eof(complete)


def _exchange(context: Any) -> Exchange | None:
    return getattr(context, "exchange", None)
