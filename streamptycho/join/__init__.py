"""Frames and positions, joined by frame index."""
