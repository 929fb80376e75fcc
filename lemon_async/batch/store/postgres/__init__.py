"""A journal in PostgreSQL: `store.py` has its transactions, `owners.py` says who is alive."""
