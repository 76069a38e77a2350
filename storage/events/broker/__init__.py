"""A real Apache Pulsar in one process, for laptops, tests and demonstrations.

`pom.xml` names the release, `standalone.conf` its settings, `jars.py` fetches it once, `process.py`
runs it, `python -m storage.events.broker` is all of that in the foreground. Production has its own
cluster; nothing here is used there.
"""
