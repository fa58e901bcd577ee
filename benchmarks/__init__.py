"""Measurements of the server, each a command that prints what it found."""
