"""Closed days of decisions as Parquet files, and questions asked of them.

PostgreSQL stays the truth; a day that is over never changes there, so that its files are written
once and can be copied, kept and read by any tool. `files` writes them, `report` asks DuckDB.
"""
