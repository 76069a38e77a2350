"""WebAssembly as an algorithm: code of strangers, without a way out and with bounded work.

The module imports nothing, so it reaches no file, clock or network. Every question gets an instance
of its own, so nothing is kept between them. Fuel bounds the instructions, `memory_mb` the memory;
NaNs are canonical and there are no threads, so the same question gives the same bits everywhere.

It exports `memory` and two functions; numbers are little-endian, doubles aligned to 8 bytes:

    allocate(bytes: i32) -> i32                     room in its memory, for us to write to
    size(n: i32, columns: i32, numbers: i32, portfolio: i32, weights: i32)

    columns     for each of `LineColumns` in the order of the contract, n doubles
    numbers     the parameters that the settings name, in their order; NaN where one isn't given
    portfolio   equity, free, gross weight, net weight, and 1 while reducing, else 0
    weights     n doubles for the answer, NaN to begin with
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import wasmtime

from compute.algorithm import COLUMNS, AlgorithmInput
from compute.market import Floats
from server.algorithms.asked import AlgorithmError, Description, Reply
from server.algorithms.settings import AlgorithmSettings

_BINARY = b"\0asm"
_LENGTH_MAX = 300


class WasmAlgorithm:
    """A module, compiled once."""

    def __init__(self, settings: AlgorithmSettings) -> None:
        """Raises `ValueError`: another file than the pinned one, no module, or one with imports."""
        assert settings.wasm is not None, "the settings of a module"
        assert settings.version is not None, "checked by the settings"
        try:
            content = settings.wasm.read_bytes()
        except OSError as error:
            raise ValueError(f"{settings.wasm}: {error.strerror}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != settings.sha256:
            raise ValueError(f"{settings.wasm} has the SHA-256 {found}: not it")
        self._settings = settings
        self._description = Description(
            settings.version, found, f"WebAssembly, {settings.wasm.name}"
        )
        self._engine = wasmtime.Engine(_config())
        try:
            code = content if content.startswith(_BINARY) else content.decode()
            self._module = wasmtime.Module(self._engine, code)
        except (wasmtime.WasmtimeError, UnicodeDecodeError) as error:
            raise ValueError(f"{settings.wasm} is no module: {error}"[:_LENGTH_MAX]) from error
        if self._module.imports:
            raise ValueError(f"{settings.wasm} imports something; a module must bring all it needs")
        names = {item.name for item in self._module.exports}
        if missing := {"memory", "allocate", "size"} - names:
            raise ValueError(f"{settings.wasm} doesn't export {', '.join(sorted(missing))}")

    async def describe(self, deadline_s: float) -> Description:
        """See `Algorithm`."""
        del deadline_s
        return self._description

    async def size(
        self, question: AlgorithmInput, deadline_s: float, done: Callable[[], None]
    ) -> Reply:
        """See `Algorithm`. What is late ends by its fuel."""
        work = asyncio.ensure_future(asyncio.to_thread(self._run, question))
        work.add_done_callback(lambda finished: _finish(finished, done))
        try:
            async with asyncio.timeout(deadline_s):
                weight = await asyncio.shield(work)
        except TimeoutError as error:
            text = f"no answer within {1000 * deadline_s:.0f} ms"
            raise AlgorithmError("TIMEOUT", text) from error
        return Reply(weight, self._description.version, self._description.sha256)

    async def close(self) -> None:
        """See `Algorithm`."""

    def _run(self, question: AlgorithmInput) -> Floats:
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=self._settings.memory_mb << 20, instances=1, memories=1)
        store.set_fuel(self._settings.fuel)
        try:
            return self._asked(store, question)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            text = "its fuel is used up" if "fuel" in str(error) else f"it trapped: {error}"
            raise AlgorithmError("ERROR", text[:_LENGTH_MAX]) from error
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            text = f"its functions are not as they should be: {error}"
            raise AlgorithmError("ERROR", text[:_LENGTH_MAX]) from error

    def _asked(self, store: wasmtime.Store, question: AlgorithmInput) -> Floats:
        exports: Any = wasmtime.Instance(store, self._module, []).exports(store)
        memory, n = exports["memory"], len(question.instrument_ids)
        portfolio = question.portfolio
        state = (
            portfolio.equity,
            portfolio.free,
            portfolio.gross_weight,
            portfolio.net_weight,
            float(portfolio.is_reducing),
        )
        numbers = [question.parameters.get(name, np.nan) for name in self._settings.numbers]

        def written(values: Sequence[float] | Floats) -> int:
            data = np.asarray(values, dtype="<f8").tobytes()
            start: int = exports["allocate"](store, len(data)) & 0xFFFFFFFF
            if start + len(data) > memory.data_len(store):
                raise ValueError("allocate gave room that isn't in its memory")
            memory.write(store, data, start)
            return start

        columns = np.concatenate([question.columns[name] for name in COLUMNS])
        answer = np.full(n, np.nan)
        arguments = [written(part) for part in (columns, numbers, state, answer)]
        exports["size"](store, n, *arguments)
        start = arguments[-1]
        return np.frombuffer(memory.read(store, start, start + 8 * n), dtype="<f8").astype(float)


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    config.wasm_threads = False
    config.wasm_relaxed_simd = False
    config.wasm_relaxed_simd_deterministic = True
    return config


def _finish(finished: "asyncio.Future[Floats]", done: Callable[[], None]) -> None:
    done()
    if not finished.cancelled():
        finished.exception()  # of one that nobody waits for any more
