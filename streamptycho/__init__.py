"""Live ptychography: the picture forms while the scan runs."""

__version__ = "0.1.0"
