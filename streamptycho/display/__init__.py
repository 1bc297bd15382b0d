"""What is known of each scan while it runs, and maps and pictures of it."""
