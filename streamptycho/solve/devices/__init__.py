"""What computes: CPU threads or a GPU."""
