"""Exports of a journal: datasets of pictures that training tools read, and tables of all rows.

`exporting.py` has the public function; `columns.py` decides which columns there are and of which kind, before anything
is written.
"""

from lemon_async.batch.exports.exporting import Export, Format, export

__all__ = ["Export", "Format", "export"]
