"""The running service: wiring and protocol. No mathematics, no SQL."""
