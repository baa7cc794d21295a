"""One module per command: each takes a target and returns a Report."""
