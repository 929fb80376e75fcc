"""How results look: in notebooks, on a page, in a terminal. Markup and escape codes only: no I/O, no asyncio."""
