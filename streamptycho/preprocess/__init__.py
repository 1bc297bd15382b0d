"""From raw counts to amplitudes, and from motor positions to object pixels."""
