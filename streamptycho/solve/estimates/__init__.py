"""What is estimated beside object and probe: intensity, background, modes and positions."""
