"""What is written to a child process, which may end before it has read it.

How a write to the pipe of a child that has ended fails depends on the event loop and the moment:
BrokenPipeError, ConnectionResetError, or uvloop's RuntimeError of a transport that is closed.
None of them says why the child ended: its own words and its exit code do, so those are waited for.
"""

import asyncio
from asyncio.subprocess import Process


async def tell(child: Process, content: bytes) -> bool:
    """Writes to standard input of a child; False where it had ended before it read all."""
    assert child.stdin is not None, "the child was started with a pipe"
    try:
        child.stdin.write(content)
        await child.stdin.drain()
    except (OSError, RuntimeError):
        return False
    return True


async def exchange(child: Process, content: bytes) -> tuple[bytes, bytes]:
    """What a child that is told `content` writes to standard output and error, to its end."""
    assert child.stdin is not None, "the child was started with pipes"
    assert child.stdout is not None, "the child was started with pipes"
    assert child.stderr is not None, "the child was started with pipes"

    async def feed() -> None:
        assert child.stdin is not None
        await tell(child, content)
        child.stdin.close()

    _, answer, errors = await asyncio.gather(feed(), child.stdout.read(), child.stderr.read())
    await child.wait()
    return answer, errors
