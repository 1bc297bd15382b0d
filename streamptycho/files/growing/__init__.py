"""Files that another process writes: what is in them so far."""
