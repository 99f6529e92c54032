"""s3fs over HTTP sessions that are traced: by aiohttp's tracing and botocore's setting for its session class."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp


def traced_session(trace: "aiohttp.TraceConfig") -> type:
    """Return botocore's HTTP session class (``http_session_cls`` of its configuration) with `trace` attached."""
    from aiobotocore.httpsession import AIOHTTPSession

    trace.freeze()

    class TracedSession(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: Any) -> Any:
            session = await super()._get_session(proxy_url)
            if trace not in session.trace_configs:
                session.trace_configs.append(trace)
            return session

    return TracedSession
