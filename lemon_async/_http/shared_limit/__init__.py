"""Share one rate limit among all processes that use an account, through a store that they all reach.

Begin with `_pace/leases.py` (which slots a process has, and what it may do without the store) and `store.py` (what a
store does); `client.py` keeps the two in touch. `opening.py` chooses `redis.py` or `postgres.py`.
"""
