"""The way of a sizing: gather, size, record."""
