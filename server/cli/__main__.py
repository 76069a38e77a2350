"""`python -m server.cli`: the same as `sizing`."""

from server.cli import app

app()
