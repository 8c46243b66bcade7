"""Traces: a span of each request for an OpenTelemetry collector, where a person names one; else nothing is ever sent.

Knows: OpenTelemetry's SDK. Does not know: requests, routes: FastAPI makes the spans, of which the path may hold keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extmem.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def provider(address: str) -> TracerProvider:
    """What sends spans to a collector as OTLP over HTTP. Raises InvalidInput, ImportError."""
    if not address.startswith(("http://", "https://")):
        raise InvalidInput(f"{address!r} is no collector: give its address, as http://127.0.0.1:4318.", address)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ImportError("traces need OpenTelemetry: pip install 'extmem[telemetry]'") from error
    found = TracerProvider(resource=Resource.create({"service.name": "extmem"}))
    found.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{address.rstrip('/')}/v1/traces")))
    return found
