"""Rows of a batch, from files and iterables to what a journal holds.

Read `reader.py` first: it takes rows from `files.py` or `iterables.py`, and `builder.py` makes rows of a journal of
them: `fields.py` splits their columns, and `request_json.py` writes their requests. `expand.py` makes rows from a
template and lists of values.
"""
