"""Simulated detector: synthetic scans with known truth, replay of recorded ones, faults on request."""
