"""Who holds a lock that records no holder, told from call traces and code, with evidence."""
