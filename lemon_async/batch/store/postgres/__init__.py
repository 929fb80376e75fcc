"""A journal in PostgreSQL: `store.py` has its transactions, `link.py` the connection and its owner."""
