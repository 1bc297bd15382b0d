"""Scans, reconstructions and results as objects for a notebook or a script; :mod:`streamptycho.api` is the way in."""
