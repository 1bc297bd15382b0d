"""Scans in the formats of others, for tests of the dialects: a module each."""
