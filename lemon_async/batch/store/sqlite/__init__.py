"""A journal in an SQLite file: `store.py` has its transactions."""
