"""Stores of journals, synchronous.

`ledger.py` decides what a change does, and `claims.py` who holds a row. `store.py` says what a store does; `sqlite/`
does it in a file, for one process, and `postgres/` in a database, for any number of them.
"""
