"""Readable equations in NumPy or CuPy: the oracle for every faster form."""
