"""What the service says: words, rules and shapes. No I/O, no clock, no asyncio."""
