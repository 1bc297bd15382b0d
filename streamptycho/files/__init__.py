"""Files: recorded scans in, growing scans and results out. The only package that knows HDF5."""
