"""Processes around the library: command line, service loops, supervision."""
