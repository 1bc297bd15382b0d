"""What turns the facts of foreign senders into the messages of a scan. Pure."""
