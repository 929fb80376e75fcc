"""A URL names the store of a shared rate limit."""
