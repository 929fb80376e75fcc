"""Paid jobs: submit, poll and await them. Begin with `engine.py`, then `submission.py`, `task.py` and `poller.py`.

A setting of a session goes into `settings.py` and `lemon_async.session`; a span per request into `_http/attempt.py`.
"""
