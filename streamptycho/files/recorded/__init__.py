"""Recorded scans of any dialect: what their numbers mean, and why."""
