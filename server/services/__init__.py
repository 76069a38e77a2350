"""The RPC services: each method checks, calls, and converts; errors are `server.errors.Refusal`."""
