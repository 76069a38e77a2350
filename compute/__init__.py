"""Mathematics only: pure functions on arrays. No I/O, no clock, no protobuf, no asyncio."""
