"""The shell of a shared rate limit: one asyncio task that asks the store."""
