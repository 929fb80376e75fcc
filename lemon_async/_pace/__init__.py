"""Decide when to send a request, and what to send again. Pure: `now` is an argument, in seconds of a monotonic clock.

Begin with `schedule.py` (which task to poll when), `budget.py` (the rate limit), `leases.py` (the same for several
processes) or `retry.py` (the retry table).
A retry rule is one row of that table, plus its classification in `_api/error_responses.py` if the failure is new.
"""
