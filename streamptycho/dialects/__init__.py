"""What foreign senders say: the door, and their formats, a module each. Pure: bytes and times in, facts out."""
