"""Whole lots and limits on the number of positions: mixed-integer programs with a stated gap."""
