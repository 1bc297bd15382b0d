"""What travels between the parts, as values that check themselves."""
