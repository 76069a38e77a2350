"""The RPC services: each method checks, calls, converts, and refuses by `server.calls.errors`."""
