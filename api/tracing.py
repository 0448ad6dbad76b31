"""Traces: one span a request, sent by OpenTelemetry where an endpoint is set; FastAPI makes the spans, we say what a search did.

The API of OpenTelemetry comes with FastAPI and does nothing by itself; what sends spans is the extra `tracing`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry import trace

from engine.config import Settings
from engine.datatypes import SearchResult
from engine.errors import MissingExtra

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "semblance"


def telemetry(settings: Settings) -> "TelemetryConfig":
    """Say what FastAPI is to trace: nothing without an endpoint. Raises `MissingExtra` when one is set and nothing can send."""
    quiet: TelemetryConfig = {"auto_configure": False, "metrics": False, "logs": False, "operation_spans": False}
    if settings.otlp_endpoint is None:
        return quiet | {"tracing": False}
    return quiet | {"tracing": True, "tracer_provider": _provider(settings.otlp_endpoint)}


def finish(config: "TelemetryConfig") -> None:
    """Send what has not been sent yet, and end; waits for the collector for a few seconds."""
    provider = config.get("tracer_provider")
    if provider is not None:
        provider.shutdown()  # type: ignore[attr-defined]


def _provider(endpoint: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("SEMBLANCE_OTLP_ENDPOINT", "tracing") from None
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    return provider


def note_search(collection: str, result: SearchResult, *, hits: int, timings_ms: Mapping[str, float]) -> None:
    """Write on the span of this request, if there is one, what its search found and how long each stage took."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(
            {
                "semblance.collection": collection,
                "semblance.decision": result.decision,
                "semblance.cache": result.cache,
                "semblance.version": result.version,
                "semblance.hits": hits,
                **{f"semblance.{stage}_ms": value for stage, value in timings_ms.items()},
            }
        )
