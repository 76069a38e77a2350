"""The running service: wiring and protocol. No mathematics, no SQL."""

import os

# Else gRPC starts threads in every process that is forked from a server, and those, which run on
# until it becomes another program, end it now and then (SIGSEGV). Read when grpc is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
