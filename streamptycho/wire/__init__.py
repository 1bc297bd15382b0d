"""Messages to bytes and back, and the sockets that carry them."""
