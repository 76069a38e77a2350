"""JSON over HTTP for every call, in a process of its own beside the server."""
