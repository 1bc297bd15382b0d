"""How the services are, for monitors: figures for Prometheus, and whether all are there and well."""
