"""The price of a poll, and the least gap between two polls of a task, by demand.

Problem: a poll costs a request and saves waiting. What a request is worth depends on who else wants it: almost nothing
while the account is idle, as much as the market says when thousands of tasks share it.

Derivation: a job that ends with hazard h (the probability per second) and is polled every g seconds is found g / 2
seconds late on average: h * g / 2 seconds of lag per second. Its polls cost λ / g per second at the price λ, in seconds
of waiting per poll. The sum is least at g = sqrt(2 * λ / h). N tasks that share B polls per second can afford g = N / B
each, which is the best gap at

    λ = h / 2 * (N / B)².

* B is half of the room in the budget. The other half is for submits, and for other programs.
* h is that of a job of 60 s, the geometric middle of what the contract says ("most tasks take 30-120 s"). It only sets
  the level: the gaps of a task follow from the hazard at its age, and are longer while it is young. With jobs of 45 s
  and more the polls of all tasks stay below B in any minute (`benchmarks pace`); jobs of a few seconds need more than
  that for their submits alone.
* Floor: at that price, a task that ends with a hazard of 1 % per second is polled every second, the default of
  `min_gap_s`. A lower one would only add polls of young tasks, where hardly any job ends.
* Ceiling: what a request is worth under scarcity. Beyond it the tasks with the most lag share the slots
  (`schedule.py`).
* No task is polled more often than every 1 / B seconds: a lone one never takes more than half of the budget.

More tasks never lower the price or the gap, more room never raises them. An emulator's speed divides both, as all times
of the policy; its rate limit is per real minute, which there the rate limiter alone keeps.

Rejected: a gap of N / B for every task (young ones would take as much as those about to end), and a price that follows
the number of polls (it would lag behind jobs that started together).

    room            pending tasks, at the floor     up to the ceiling
    60 a minute     -                               3
    1,000           6                               64
    10,000          64                              645
"""

__all__ = ["HIGHEST_PRICE_S", "LOWEST_PRICE_S", "least_gap_s", "price_s"]

HIGHEST_PRICE_S = 0.5
LOWEST_PRICE_S = 0.005
_HAZARD = 1 / 60  # per second


def least_gap_s(room_rpm: float) -> float:
    """Return the least time between two polls of one task, given the requests per minute that there is room for."""
    return 2 * 60.0 / room_rpm


def price_s(pending: int, room_rpm: float) -> float:
    """Return the price of a poll in seconds of waiting for this many pending tasks."""
    affordable_s = pending * least_gap_s(room_rpm)
    return min(max(_HAZARD / 2 * affordable_s * affordable_s, LOWEST_PRICE_S), HIGHEST_PRICE_S)
