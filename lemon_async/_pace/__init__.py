"""When to send. Pure decisions: `now` is an argument, seconds on a monotonic clock; no I/O, no asyncio."""
