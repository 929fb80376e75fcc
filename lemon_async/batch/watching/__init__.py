"""Look at a journal while a batch runs, and after it: read-only, and without getting in the way of a runner."""
