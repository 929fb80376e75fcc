"""Send one request to the API: connections, rate limit, timeouts, retries, and the key that must not leak.

Begin with `transport.py`, which every request passes; `attempt.py` is one request on the wire, and `calls.py` sends
whatever costs nothing. A span per request belongs in `transport.py`, where method and path are
known, and `attempt.py`, where its start, head and end are.
"""
