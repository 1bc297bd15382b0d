"""From a stage to a process: the loop, its start and its orderly end."""
