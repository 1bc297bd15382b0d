"""The three stages of the live pipeline: pure composition of the library, driven by messages and a clock.

A stage knows no socket. What it wants sent it yields as (port, message); ``processes.runtime`` of the
services sends it.
"""
