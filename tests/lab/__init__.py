"""Real vmcores of Debian's kernels, each with known faults in it: see README.md."""
