"""The equations compiled for the CPU: the same names and arithmetic as in ``equations``."""
