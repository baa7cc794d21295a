"""kdecode: from an address of kernel or user code to its source, its code and its values."""
