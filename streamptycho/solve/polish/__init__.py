"""Refinement after the last frame, by one of several methods."""
