"""The live page: what the services publish, shown in a browser."""
