"""Generated from the contract in `protos/`."""
