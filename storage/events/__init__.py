"""Events to and from Apache Pulsar: nothing committed is lost, nothing uncommitted travels.

    outbox (PostgreSQL) -> relay -> topics        topics -> consumer -> the server's handlers

`relay.py` publishes what has been committed, `consumer.py` takes in what others publish; both know
the broker and the database only by the few methods in `ports.py`, so the tests run the same code
in a simulation. `topics.py` names every topic and subscription, `client.py` speaks Pulsar,
`outbox_session.py` PostgreSQL, `broker/` is a Pulsar for a laptop.
"""
