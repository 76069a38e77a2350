"""PostgreSQL: the pool, the migrations, the write path, and one module per aggregate.

Every function takes an open asyncpg connection first and the tenant second; SQL lives here only.
Whoever calls decides on the transaction: `Database.transaction` (pool.py) opens one.
"""
