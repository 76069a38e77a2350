"""Webhooks: committed events posted over HTTP, by a process of its own."""
