"""Positions from home-made senders, whose fields are named in the options."""
