"""Rows of a batch, from files and iterables to what a journal holds.

Read `reader.py` first: it takes rows from `sources.py`, splits their columns with `fields.py`, and writes requests with
`request_json.py`. `expand.py` makes rows from a template and lists of values.
"""
