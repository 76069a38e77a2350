"""From a checked request and a state to a decision: gather, size, encode. Writes nothing.

`gatherer.py` reads, `compute/sizing.py` sizes, in a compute thread; `coordinator.py` records
what comes out.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from compute.methods import Engine
from compute.optimize.time_limit import ENDLESS, TimeLimit
from compute.shapes import KernelRegistry, Key, NotReadyError
from compute.sizing import size_together
from server.algorithms.registry import Algorithms
from server.calls.batching import ComputeLoop, ComputeThread
from server.calls.errors import Refusal
from server.calls.request_context import Call
from server.joint.foreseen import Foreseen
from server.joint.runner import JointRunner
from server.observability import profile
from server.portfolios.portfolio_state import PortfolioState
from server.sizing.custom import answer_of, check_known, is_asked, question_of, sized_by
from server.sizing.gatherer import Gatherer
from server.sizing.method import is_joint_request, is_short
from server.sizing.prepared_request import PreparedRequest
from server.sizing.request import SizingRequest
from server.sizing.shared_limits import parts_of, with_shared
from server.sizing.sized_request import SizedRequest, sized

T = TypeVar("T")

TOGETHER_MAX = 16
"""Variations of a request that are sized in one go; then other work gets its turn."""

PROGRAMS_MAX = 16
"""A request calls at most so many programs."""


@dataclass(frozen=True)
class Places:
    """Where work is computed: short work, joint work, so that nobody waits for it, and the rest."""

    loop: ComputeLoop
    thread: ComputeThread
    joint: ComputeThread


class SizingEngine:
    """Gathers and solves; keeps nothing and writes nothing."""

    def __init__(
        self,
        gatherer: Gatherer,
        kernels: KernelRegistry,
        joint: JointRunner,
        places: Places,
        lines_max: int,
        ready: Callable[[Key, float], Awaitable[None]],
        algorithms: Algorithms | None = None,
    ) -> None:
        """`joint` runs joint problems; `ready` waits for a program, so many seconds at most.

        algorithms: those of method CUSTOM; None: there are none.
        """
        self._algorithms = algorithms or Algorithms({})
        self.gatherer = gatherer
        self.joint = joint
        self._foreseen = Foreseen(joint)
        self.kernels = kernels
        self.lines_max = lines_max
        self._places = places
        self._ready = ready

    async def solve(
        self, call: Call, request: SizingRequest, state: PortfolioState
    ) -> SizedRequest:
        """Sizes a checked request against a state. Raises `Refusal`."""
        found = await self.gatherer.gather(call, request, state)

        def work(time_limit: TimeLimit) -> SizedRequest:
            return self.answer(self.gatherer.prepared(found), time_limit)

        n_lines = request.n_lines
        if request.method_with(state.parameters).engine is Engine.OUTSIDE:
            problem = await self.run(lambda _: self.gatherer.prepared(found), n_lines, call)
            problem = await self.with_algorithm(problem, call)
            return await self.run(lambda limit: self.answer(problem, limit), n_lines, call)
        more = found.covariance, found.outcomes, found.at_rest
        has_more = any(item is not None for item in more)
        if not has_more and is_short(request, state, found.snapshot):
            return await self._short(work, call)
        is_joint = is_joint_request(request, state.parameters)
        return await self.run(work, n_lines, call, is_joint=is_joint)

    async def with_algorithm(self, problem: PreparedRequest, call: Call) -> PreparedRequest:
        """The problem with the sizes of its algorithm, where it is one for an algorithm.

        Raises `Refusal` where the server doesn't have it, or all or nothing is wanted.
        """
        if problem.inputs.method.engine is Engine.OUTSIDE:
            check_known(problem, self._algorithms)
        if not is_asked(problem):
            return problem
        n_lines = len(problem.ids)
        question = await self.run(lambda _: question_of(problem, self.kernels), n_lines, call)
        answer = await answer_of(problem, question, self._algorithms, call.left_s)
        return sized_by(problem, answer)

    async def run(
        self, work: Callable[[TimeLimit], T], n_lines: int, call: Call, *, is_joint: bool = False
    ) -> T:
        """Runs `work` in its compute thread; where a program isn't there yet, when it is."""
        thread = self._places.joint if is_joint else self._places.thread
        if call.ticket is not None:
            call.ticket.takes_long()

        def attempt() -> Awaitable[T]:
            here = profile.handed_over(work, "compute thread")
            return thread.run(here, n_lines=n_lines, deadline_s=call.left_s, caller=call.caller)

        return await self._when_ready(attempt, call)

    async def _short(self, work: Callable[[TimeLimit], T], call: Call) -> T:
        """The same on the event loop."""

        def attempt() -> Awaitable[T]:
            loop, here = self._places.loop, profile.handed_over(work, "compute on the event loop")
            return loop.run(lambda: here(ENDLESS), deadline_s=call.left_s, caller=call.caller)

        return await self._when_ready(attempt, call)

    async def _when_ready(self, attempt: Callable[[], Awaitable[T]], call: Call) -> T:
        """What `attempt` gives; where a program isn't there yet, again when it is."""
        for _ in range(PROGRAMS_MAX):
            try:
                return await attempt()
            except NotReadyError as error:
                await self._ready(error.key, call.left_s)
        return await attempt()

    async def solve_together(
        self,
        call: Call,
        requests: Sequence[SizingRequest],
        states: Sequence[PortfolioState],
    ) -> list[SizedRequest]:
        """Sizes several portfolios; those that share limits divide them (`limits/shared.py`)."""
        alone: list[SizedRequest] = []
        for position, (request, state) in enumerate(zip(requests, states, strict=True)):
            try:
                alone.append(await self.solve(call, request, state))
            except Refusal as refusal:
                raise refusal.within(f"requests[{position}].") from refusal
        groups: dict[str, list[int]] = {}
        for i, (state, solved) in enumerate(zip(states, alone, strict=True)):
            if solved.problem.context.shared is not None and state.portfolio.group_id:
                groups.setdefault(state.portfolio.group_id, []).append(i)
        for members in groups.values():
            if len(members) > 1:
                await self._divide(members, states, alone, call)
        return alone

    async def _divide(
        self,
        members: Sequence[int],
        states: Sequence[PortfolioState],
        solved: list[SizedRequest],
        call: Call,
    ) -> None:
        """Solves the members of a group again, each within its part of what they share."""

        def work(time_limit: TimeLimit) -> list[SizedRequest]:
            parts = parts_of([states[i] for i in members], [solved[i] for i in members])
            return [
                self.answer(with_shared(solved[i].problem, part), time_limit)
                for i, part in zip(members, parts, strict=True)
            ]

        n_lines = sum(len(solved[i].problem.ids) for i in members)
        is_joint = any(solved[i].problem.inputs.method.engine is Engine.OPTIMIZER for i in members)
        again = await self.run(work, n_lines, call, is_joint=is_joint)
        for i, item in zip(members, again, strict=True):
            solved[i] = item

    def answer(self, problem: PreparedRequest, time_limit: TimeLimit = ENDLESS) -> SizedRequest:
        """Computes and encodes; runs in a compute thread."""
        return self.answers([problem], time_limit)[0]

    def answers(
        self, problems: Sequence[PreparedRequest], time_limit: TimeLimit = ENDLESS
    ) -> list[SizedRequest]:
        """The same for several problems."""
        with profile.span("compute: sizes, limits, lots, guard"):
            inputs = [problem.inputs for problem in problems]
            sizings = size_together(inputs, self.kernels, self._foreseen, time_limit)
        with profile.span("compute: encoding"):
            return [
                sized(problem, sizing, self.kernels)
                for problem, sizing in zip(problems, sizings, strict=True)
            ]
