"""What keeps files whole: locks and names, the first bytes of HDF5, what is done after a writer died."""
