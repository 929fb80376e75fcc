"""Stores of journals, synchronous: `ledger.py` decides what a change does, `sqlite.py` writes it."""
