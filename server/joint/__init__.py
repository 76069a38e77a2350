"""Joint work: what is computed, in a process of its own, ended where it doesn't end by itself."""
