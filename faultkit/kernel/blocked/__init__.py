"""A kernel's dump as a View for `dstate`: its blocked tasks, and what can be asked about them."""
