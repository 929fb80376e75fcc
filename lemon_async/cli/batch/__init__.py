"""`lemon-async batch`: buy the rows of a file once each, and look after their journal.

Begin with `commands.py`, which declares the commands. `run.py` does the work of `batch run`, `journals.py` that of the
others; `report.py` says in words and JSON what they found.
"""
