"""Mathematics only: pure functions on arrays. No I/O, no clock, no protobuf, no asyncio.

Everything is float64: importing this package says so to JAX, whoever the caller is.
"""

import jax

jax.config.update("jax_enable_x64", True)
# Who calls a program waits for it: to hand it to a thread of JAX's own only adds two switches.
jax.config.update("jax_cpu_enable_async_dispatch", False)
