"""What must last (PostgreSQL) and what must travel (Pulsar). No mathematics.

Read `postgres/commit.py` first: it is the write path of a decision. `embedded.py` is the database
of a laptop, `errors.py` the ways all of this can fail.
"""
