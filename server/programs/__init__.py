"""Compiled programs: kept on disk, compiled by a process of their own, loaded without tracing."""
