"""Leased slots."""
