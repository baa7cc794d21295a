"""Reports as text, JSON and DOT; tabulate and pygments are imported here only."""
