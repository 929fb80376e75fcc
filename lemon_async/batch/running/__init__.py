"""One run of a batch. Read `runner.py` first; `feed.py` says which row is next, `saving.py` where pictures go."""
