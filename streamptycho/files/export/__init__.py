"""A scan or a result in the files of others."""
