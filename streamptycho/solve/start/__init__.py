"""The first probe: how it is found in the data, and how far it can be trusted."""
