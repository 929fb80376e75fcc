"""Measurements that anyone can repeat: `python -m benchmarks`, or `python -m benchmarks NAME`."""
