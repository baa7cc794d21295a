"""PyKdump's API: nothing of it is used."""
