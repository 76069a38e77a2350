"""The running service: wiring and protocol. No mathematics, no SQL."""

import os

# Else gRPC starts threads in every process that is forked from a server, and those, which run on
# until it becomes another program, end it now and then (SIGSEGV). Read when grpc is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
# A matrix product of one call takes no other call's core. With a thread a core, those that have
# nothing to do wait by spinning: estimates took up to three times the processor time on a busy
# machine. Read when NumPy is imported; benchmarks and the joint solver's process do the same.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
