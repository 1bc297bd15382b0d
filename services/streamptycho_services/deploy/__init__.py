"""Unit files for systemd, filled in for one machine."""
