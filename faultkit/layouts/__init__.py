"""How the C libraries and language runtimes lay out their locks in memory."""
