"""Reconstruction: update equations, probe start, rolling engine. Knows arrays and pixels, no wire and no files."""
