"""Draw, edit and decode pictures with Pillow.

Begin with `renderer`: it runs `render` (new pictures), `composite` (edits) and `decode` (uploads) in threads. Only
these three, `caption` and `fonts` import Pillow, an optional dependency. `picture` holds the plain data.
"""
