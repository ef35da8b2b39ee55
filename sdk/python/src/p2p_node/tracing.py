"""The trace of the current span, if the program uses OpenTelemetry."""

from __future__ import annotations

from typing import Any

try:
    # No dependency: a program that traces has it.
    from opentelemetry import trace as _trace  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError:
    _trace = None  # type: ignore[assignment,unused-ignore]


def current_traceparent() -> str | None:
    """Returns the `traceparent` of the current span, or `None` if there is none."""
    if _trace is None:
        return None
    context: Any = _trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
