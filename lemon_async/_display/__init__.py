"""Markup for notebooks and pages, and thumbnails. Pure: no asyncio and no clock."""
