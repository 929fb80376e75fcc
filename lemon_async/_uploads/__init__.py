"""Requests on their way out: sources of pictures, checks and request bodies. Begin with `preparation.prepare`.

A new kind of source goes into `sources.py` (what it is) and `upload.py` (how its bytes are read).
"""
