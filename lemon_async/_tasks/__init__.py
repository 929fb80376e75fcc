"""Doing it: every socket and every asyncio task of the library is owned here."""
