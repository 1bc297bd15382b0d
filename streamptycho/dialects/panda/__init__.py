"""PandA: its data port, and its rows as JSON over ZeroMQ."""
