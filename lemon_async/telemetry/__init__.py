"""OpenTelemetry: spans and metrics made of a session's events.

```python
from lemon_async import LemonSession
from lemon_async.telemetry import Telemetry

async with LemonSession(on_event=Telemetry()) as lemon:
    await lemon.generate("a white cat", model="flux-pro")
```

Needs `pip install 'lemon-async[otel]'`, which is OpenTelemetry's API; the program chooses and sets up an SDK. To read
the code, begin with `handler.py`; README.md here lists all names.
"""

try:
    from lemon_async.telemetry.handler import Telemetry
except ImportError as _missing:
    if (_missing.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ImportError("telemetry needs OpenTelemetry's API: pip install 'lemon-async[otel]'") from _missing

__all__ = ["Telemetry"]
