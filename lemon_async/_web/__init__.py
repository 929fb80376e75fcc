"""Serve pages on this machine: the emulator's studio and the page of a batch share their gallery and their protection.

It knows nothing of the API's contract, and imports nothing of the package.
"""
