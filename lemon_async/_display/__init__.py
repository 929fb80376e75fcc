"""Markup for notebooks and contact sheets, and thumbnails. Pure: no asyncio and no clock.

Begin with `bundle.py` for notebooks and `page.py` for the sheet; its template is `sheet.html.jinja`.
"""
