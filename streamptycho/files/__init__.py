"""Files: read recorded scans in several dialects, write growing CXI files and results. The only import of h5py."""
