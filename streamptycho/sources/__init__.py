"""Where the detector's streams come from: sockets and files, and the listener that merges them."""
