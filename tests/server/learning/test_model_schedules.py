"""Models trained by a schedule, end to end through RPCs, on a clock that the test moves."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from positionsizing.v1 import (
    events_pb2,
    feature_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.features import FEATURES, bets_of_closes, bets_of_universe
from compute.shapes import KernelRegistry
from server import frames
from server.app import App
from server.jobs.worker import _WORK, Means, Worker
from server.learning.model_schedules import ModelSchedules
from server.learning.models import STAGE_AGE_MAX_S, Models
from server.maintenance import tasks as maintenance
from storage import embedded
from storage.postgres.pool import Database
from tests.server.learning.test_feature_store import stamp
from tests.server.learning.test_learning import promotion
from tests.server.risk.test_histories import START, part, put
from tests.server.support.service_client import Client, new_id, refusal, started

pytestmark = pytest.mark.timeout(1200)
"""Processes that import all of JAX start slowly on a busy machine."""
NAMES = [f"T{i}" for i in range(4)]
FIRST = 620
"""Closes that there are when a schedule is set."""
SMALL = pb.TrainModelRequest(folds=2, ridge=1.0, calibration=pb.CALIBRATION_KIND_NONE)
"""Quickly trained."""
PERSIST = 0.97
"""A trend goes on from one close to the next with this chance."""


def trending(n: int, turn: float, seed: int = 0) -> np.ndarray:
    """Closes (n, 4) whose trends go on as long as `PERSIST` has it; from `turn` of them on, each
    trend of a month is followed by its opposite, so that what was learned is wrong."""
    random = np.random.default_rng(seed)
    drift = np.ones(len(NAMES))
    logs = np.zeros((n, len(NAMES)))
    for bar in range(1, n):
        flips = random.random(len(NAMES)) > PERSIST
        drift = np.where(flips, -drift, drift)
        if bar >= turn:
            drift = -np.sign(logs[bar - 1] - logs[max(bar - 22, 0)])
        logs[bar] = logs[bar - 1] + 0.004 * drift + random.normal(0.0, 0.004, len(NAMES))
    return 100.0 * np.exp(logs)


class Here(Worker):
    """Does the work in this process, for tests that are not about the worker."""

    async def run(self, method: str, request: Message | bytes, *, deadline_s: float) -> bytes:
        del deadline_s
        read, work = _WORK[method](None)
        assert isinstance(request, bytes)
        answer = await asyncio.to_thread(lambda: work(read(request)))
        return answer if isinstance(answer, bytes) else answer.SerializeToString()


@dataclass
class Desk:
    """A client, a universe with more closes to come, and the service's work at a time of ours."""

    client: Client
    app: App
    closes: np.ndarray
    universe: str = field(default_factory=lambda: new_id("trends"))
    schedule: str = field(default_factory=lambda: new_id("trend"))
    n_stored: int = 0
    worker: type[Worker] = Here

    async def store(self, until: int) -> None:
        """More closes."""
        rows = self.closes[self.n_stored : until].tolist()
        await put(self.client, part(self.universe, rows, day=self.n_stored, instrument_ids=NAMES))
        self.n_stored = until

    async def set(self, **given: Any) -> pb.ModelSchedule:
        """The schedule, set by RPC; the server's own clock is later than any of the test's."""
        training = given.pop("training", SMALL)
        asked = pb.ModelSchedule(
            schedule_id=self.schedule, universe_id=self.universe, training=training,
            horizon_bars=5, cost_rate=0.0, **given,
        )  # fmt: skip
        request = pb.SetModelScheduleRequest(schedule=asked)
        return (await self.client.learning.SetModelSchedule(request)).schedule

    async def work(self, day: float) -> int:
        """What the maintenance of a server does each minute, `day` days from now."""
        assert self.app.config.dsn is not None
        database = await Database.open(self.app.config.dsn.get_secret_value())
        now = datetime.now(UTC) + timedelta(days=day)
        models = Models(database, 60.0)
        try:
            worker = self.worker(Means(self.app.config.data_dir))
            schedules = ModelSchedules(database, worker, models, lambda: now)
            return await schedules.run_due()
        finally:
            await database.aclose()
            await asyncio.sleep(2.0 * STAGE_AGE_MAX_S)  # as for what another server has done

    async def shown(self) -> pb.ModelSchedule:
        answer = await self.client.learning.ListModelSchedules(pb.ListModelSchedulesRequest())
        return next(s for s in answer.schedules if s.schedule_id == self.schedule)

    async def model(self, model_id: str) -> pb.GetModelResponse:
        answer: pb.GetModelResponse = await self.client.learning.GetModel(
            pb.GetModelRequest(model_id=model_id)
        )
        return answer

    async def stage(self, model_id: str) -> str:
        found = (await self.model(model_id)).model.stage
        return pb.ModelStage.Name(found).removeprefix("MODEL_STAGE_")

    async def alerts(self) -> list[events_pb2.Alert]:
        """Alerts of the schedule's models."""
        assert self.app.config.dsn is not None
        database = await Database.open(self.app.config.dsn.get_secret_value())
        async with database.connection(self.app.config.tenant_id, deadline_s=60.0) as connection:
            rows = await connection.fetch(
                "SELECT payload FROM outbox WHERE topic = 'alerts' ORDER BY position"
            )
        await database.aclose()
        found = [events_pb2.Alert.FromString(row["payload"]) for row in rows]
        return [item for item in found if self.schedule in item.subject]

    async def sized(self, portfolio_id: str) -> sizing_pb2.SizingDecision:
        """A line whose edge is the schedule's model, by the schedule's name."""
        values = {"momentum_21": 2.0, "momentum_126": 1.0, "drawdown_252": -0.01}
        signals = sizing_pb2.SignalBatch(
            instrument_ids=["I0"], side=[types_pb2.SIDE_LONG],
            edge_source=[sizing_pb2.EDGE_SOURCE_MODEL], payoff=[1.0], model_id=self.schedule,
            features=[
                sizing_pb2.FeatureColumn(name=name, values=[values.get(name, 0.0)])
                for name in FEATURES
            ],
        )  # fmt: skip
        request = sizing_service_pb2.SizePositionsRequest(
            portfolio_id=portfolio_id, request_id=str(uuid4()), signals=signals
        )
        return await self.client.size(request)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A server that does not look for schedules by itself: only the test's clock counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maintenance, "REFRESH_INTERVAL_S", 1e9)
        folder = tmp_path_factory.mktemp("schedules")
        async with started(postgres_server, kernels, folder) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(app: App) -> AsyncIterator[Client]:
    async with Client.connected(app.port) as connected:
        yield connected


@pytest.fixture
def desk(app: App, client: Client) -> Desk:
    return Desk(client, app, trending(1100, turn=math.inf))


async def test_versions_are_trained_scored_and_follow_each_other(desk: Desk) -> None:
    await desk.store(FIRST)
    made = await desk.set(interval_days=7, promotion=pb.PROMOTION_POLICY_WITH_EVIDENCE)
    assert (made.newest_model_id, made.live_model_id) == ("", "")
    assert await desk.work(0.01) >= 1
    first = await desk.shown()
    assert first.failure == ""
    assert first.newest_model_id.startswith(desk.schedule + ".")
    assert first.live_model_id == first.newest_model_id, "it has beaten the bars"
    found = await desk.model(first.live_model_id)
    assert found.model.schedule_id == desk.schedule
    assert found.model.author == "service:model-schedules"
    assert [change.stage for change in found.stages] == [1, 2, 3]
    rows = plain_bets(desk.closes[:FIRST])
    assert found.model.report.rows == len(rows)
    assert not found.HasField("score_since")

    portfolio_id = await desk.client.ready()
    decision = await desk.sized(portfolio_id)
    (said,) = decision.predictions
    assert said.model_id == first.live_model_id
    assert said.win_probability[0] > 0.5

    assert await desk.work(0.02) == 0, "nothing has moved"
    await desk.store(FIRST + 40)
    await desk.work(1.0)
    again = await desk.shown()
    assert again.newest_model_id == first.newest_model_id, "seven days are not over"
    scored = (await desk.model(first.live_model_id)).score_since
    until = found.model.report.trained_until_time.ToNanoseconds()
    new = [bet for bet in plain_bets(desk.closes[: FIRST + 40]) if bet[0] >= until]
    assert scored.rows == len(new) > 0, "bets that began after the training data ended"
    assert scored.e_value_gone < 20.0

    await desk.work(8.0)
    second = await desk.shown()
    assert second.newest_model_id != first.newest_model_id
    assert second.live_model_id == second.newest_model_id
    assert await desk.stage(first.live_model_id) == "SHADOW", "the predecessor"
    await desk.store(FIRST + 80)
    await desk.work(16.0)
    third = await desk.shown()
    assert await desk.stage(third.live_model_id) == "LIVE"
    assert await desk.stage(second.live_model_id) == "SHADOW"
    assert await desk.stage(first.live_model_id) == "RETIRED"
    more = (await desk.model(second.live_model_id)).score_since
    assert more.rows > 0, "shadows are scored by themselves"
    reasons = [item.reason for item in await desk.alerts()]
    assert reasons == ["MODEL_PROMOTED"] * 3
    assert await desk.work(24.0) >= 1
    assert (await desk.shown()).newest_model_id == third.newest_model_id, "no new closes"


async def test_nothing_is_promoted_but_by_hand_unless_the_policy_says_so(desk: Desk) -> None:
    desk.worker = Worker  # a process of its own, as in a server
    await desk.store(FIRST)
    await desk.set()
    await desk.work(0.01)
    desk.worker = Here
    first = (await desk.shown()).newest_model_id
    assert await desk.stage(first) == "CANDIDATE"
    refused = await refusal(desk.sized(await desk.client.ready()))
    assert (refused.code.name, refused.reason) == ("FAILED_PRECONDITION", "MODEL_NOT_LIVE")
    for stage in (pb.MODEL_STAGE_SHADOW, pb.MODEL_STAGE_LIVE):
        await desk.client.learning.PromoteModel(promotion(first, stage))
    assert (await desk.shown()).live_model_id == first
    for day, until in ((8.0, 640), (16.0, 660)):
        await desk.store(until)
        await desk.work(day)
    versions = [m for m in await _models(desk.client) if m.schedule_id == desk.schedule]
    stages = sorted(pb.ModelStage.Name(m.stage) for m in versions)
    assert stages == ["MODEL_STAGE_CANDIDATE", "MODEL_STAGE_LIVE", "MODEL_STAGE_RETIRED"]
    assert not await desk.alerts()


async def _models(client: Client) -> list[pb.Model]:
    return list((await client.learning.ListModels(pb.ListModelsRequest(page_size=1000))).models)


@pytest.mark.parametrize("policy", ["REFUSE", "PREDECESSOR", "KEEP"])
async def test_a_version_whose_edge_is_gone_goes_as_the_policy_says(
    app: App, client: Client, policy: str
) -> None:
    desk = Desk(client, app, trending(1000, turn=FIRST + 20))
    await desk.store(FIRST)
    given: dict[str, Any] = {"retirement": f"RETIREMENT_POLICY_{policy}"}
    given |= {"promotion": pb.PROMOTION_POLICY_WITH_EVIDENCE, "interval_days": 30}
    await desk.set(**given)
    await desk.work(0.01)
    before = (await desk.shown()).live_model_id
    if policy == "PREDECESSOR":
        await desk.store(FIRST + 20)
        await desk.work(31.0)
    later = 32.0 if policy == "PREDECESSOR" else 2.0
    live = (await desk.shown()).live_model_id
    assert (live != before) is (policy == "PREDECESSOR")
    if policy == "PREDECESSOR":
        assert await desk.stage(before) == "SHADOW"
    portfolio_id = await client.ready()
    assert (await desk.sized(portfolio_id)).predictions[0].model_id == live
    await desk.store(1000)
    await desk.work(later)
    score = (await desk.model(live)).score_since
    assert score.e_value_gone >= 20.0
    told = [item.reason for item in await desk.alerts() if item.reason != "MODEL_PROMOTED"]
    if policy == "KEEP":
        assert told == ["MODEL_EDGE_GONE"]
        assert await desk.stage(live) == "LIVE"
        assert (await desk.sized(portfolio_id)).predictions[0].model_id == live
        return
    assert told == ["MODEL_RETIRED"]
    last = (await desk.model(live)).stages[-1]
    assert last.stage == pb.MODEL_STAGE_RETIRED
    assert last.author == "service:model-schedules"
    assert "the e-value against it is" in last.reason
    # The predecessor saw the same turn, so that its edge is gone too: lines are refused.
    refused = await refusal(desk.sized(portfolio_id))
    assert refused.reason == "MODEL_NOT_LIVE"
    assert (await desk.shown()).live_model_id == ""


async def test_a_predecessor_that_holds_decides_again(desk: Desk) -> None:
    """Scores by hand count as well: here only the newer version is sent bets that it loses."""
    await desk.store(FIRST)
    await desk.set(
        promotion=pb.PROMOTION_POLICY_WITH_EVIDENCE,
        retirement=pb.RETIREMENT_POLICY_PREDECESSOR,
        interval_days=1,
    )
    await desk.work(0.01)
    old = (await desk.shown()).live_model_id
    await desk.store(FIRST + 30)
    await desk.work(1.5)
    new = (await desk.shown()).live_model_id
    assert new != old
    lost = pb.ScoreModelRequest(request_id=str(uuid4()), model_id=new, rows=losing_bets(200))
    score = (await desk.client.learning.ScoreModel(lost)).score_since
    assert score.e_value_gone >= 20.0
    assert await desk.stage(new) == "RETIRED"
    assert await desk.stage(old) == "LIVE"
    stages = (await desk.model(old)).stages
    assert "live before" in stages[-1].reason
    portfolio_id = await desk.client.ready()
    assert (await desk.sized(portfolio_id)).predictions[0].model_id == old


def losing_bets(n: int) -> pb.TrainingRows:
    """Later bets on strong momentum, all lost."""
    days = [START + timedelta(days=FIRST + 100 + 2 * i) for i in range(n)]
    values = {"momentum_21": 2.0, "momentum_126": 1.0, "drawdown_252": -0.01}
    rows = pb.TrainingRows(
        features=[
            sizing_pb2.FeatureColumn(name=name, values=[values.get(name, 0.0)] * n)
            for name in FEATURES
        ],
        won=[False] * n,
    )
    for day in days:
        rows.start_times.add().FromDatetime(day)
        rows.end_times.add().FromDatetime(day + timedelta(days=1))
    return rows


def plain_bets(closes: np.ndarray, horizon: int = 5, width: float = 0.5) -> list[tuple[int, bool]]:
    """Starts (nanoseconds) and outcomes of the bets of closes (T, n): a second, plain reading."""
    found = []
    times = [int((START + timedelta(days=i)).timestamp()) * 10**9 for i in range(len(closes))]
    for column in closes.T:
        returns = np.diff(np.log(column))
        for bar in range(252, len(column) - horizon):
            barrier = width * returns[bar - 21 : bar].std() * math.sqrt(horizon)
            for ahead in range(1, horizon + 1):
                change = column[bar + ahead] / column[bar] - 1.0
                if abs(change) >= barrier or ahead == horizon:
                    found.append((times[bar], change > 0.0))
                    break
    return found


def test_bets_of_a_universe_are_those_of_a_plain_reading() -> None:
    closes = trending(400, turn=math.inf, seed=3)
    times = np.array([int((START + timedelta(days=i)).timestamp()) * 10**9 for i in range(400)])
    rows = bets_of_universe(closes, times, 5, 0.5, 0.0)
    plain = sorted(plain_bets(closes))
    assert sorted(zip(rows.start.tolist(), (rows.won > 0).tolist(), strict=True)) == plain
    assert (np.diff(rows.start) >= 0).all()
    early = bets_of_closes(closes[:, 0], times, 5, 0.5, 0.0, 0)
    assert early.start.max() > rows.start.max(), "bets that ended early say less than all"
    holed = closes.copy()
    holed[300, 1] = np.nan
    carried = closes.copy()
    carried[300, 1] = closes[299, 1]
    left, right = (bets_of_universe(item, times, 5, 0.5, 0.0) for item in (holed, carried))
    in_gap = (right.start == times[300]) & (right.group == 1)
    assert in_gap.sum() == 1
    np.testing.assert_array_equal(left.features, right.features[~in_gap])


def test_frames_come_back_as_they_were() -> None:
    chunks = [b"", b"abc", b"\x00" * 70000, b""]
    assert frames.unpacked(frames.packed(chunks)) == chunks
    assert frames.unpacked(b"") == []


async def test_what_fails_is_told_once_and_tried_again(desk: Desk) -> None:
    desk.worker = Worker
    await desk.store(200)  # too few for any bet
    await desk.set()
    for day in (0.01, 1.1):
        assert await desk.work(day) >= 1
        shown = await desk.shown()
        assert "60" in shown.failure
        assert shown.newest_model_id == ""
    assert [item.reason for item in await desk.alerts()] == ["MODEL_SCHEDULE_FAILED"]
    desk.worker = Here
    await desk.store(FIRST)
    await desk.work(2.2)
    shown = await desk.shown()
    assert (shown.failure, bool(shown.newest_model_id)) == ("", True)


async def test_a_schedule_of_nothing_says_so(desk: Desk) -> None:
    await desk.set()
    await desk.work(0.01)
    assert desk.universe in (await desk.shown()).failure
    request = pb.DeleteModelScheduleRequest(schedule_id=desk.schedule)
    await desk.client.learning.DeleteModelSchedule(request)
    found = await refusal(desk.client.learning.DeleteModelSchedule(request))
    assert found.reason == "MODEL_SCHEDULE_NOT_FOUND"
    portfolio_id = await desk.client.ready()
    gone = await refusal(desk.sized(portfolio_id))
    assert gone.reason == "MODEL_NOT_FOUND"


async def test_a_schedule_that_had_no_closes_is_trained_when_they_come(desk: Desk) -> None:
    await desk.set()
    await desk.work(0.01)
    assert desk.universe in (await desk.shown()).failure
    await desk.store(FIRST)
    await desk.work(0.01)
    shown = await desk.shown()
    assert (shown.failure, bool(shown.newest_model_id)) == ("", True), "not a day later"


async def test_a_schedule_of_an_empty_set_says_what_is_missing(desk: Desk) -> None:
    set_id = new_id("set")
    declared = feature_service_pb2.FeatureSet(feature_set_id=set_id, features=["breadth"])
    await desk.client.features.PutFeatureSet(
        feature_service_pb2.PutFeatureSetRequest(feature_set=declared)
    )
    training = pb.TrainModelRequest(feature_set_id=set_id)
    training.MergeFrom(SMALL)
    await desk.store(FIRST)
    await desk.set(training=training)
    await desk.work(0.01)
    shown = await desk.shown()
    assert shown.failure.startswith(f"none of {len(plain_bets(desk.closes[:FIRST]))} bets has its")
    assert f"the set {set_id!r} knew nothing before them" in shown.failure


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"schedule_id": ""}, {"schedule.schedule_id": "MISSING"}),
        ({"universe_id": "a b"}, {"schedule.universe_id": "BAD_FORMAT"}),
        ({"interval_days": 0}, {"schedule.interval_days": "OUT_OF_RANGE"}),
        ({"horizon_bars": 500}, {"schedule.horizon_bars": "OUT_OF_RANGE"}),
        ({"barrier_width": math.nan}, {"schedule.barrier_width": "NOT_FINITE"}),
        ({"cost_rate": 1.0}, {"schedule.cost_rate": "OUT_OF_RANGE"}),
        ({"promotion": 9}, {"schedule.promotion": "UNKNOWN_VALUE"}),
        ({"retirement": 9}, {"schedule.retirement": "UNKNOWN_VALUE"}),
        ({"training": {"model_id": "mine"}}, {"schedule.training.model_id": "NOT_APPLICABLE"}),
        ({"training": {"folds": 1}}, {"schedule.training.folds": "OUT_OF_RANGE"}),
        (
            {"training": {"kind": pb.MODEL_KIND_SIZE_MULTIPLIER}},
            {"schedule.training.kind": "NOT_APPLICABLE"},
        ),
        (
            {"training": {"kind": pb.MODEL_KIND_LOG_POOL}},
            {"schedule.training.members": "OUT_OF_RANGE"},
        ),
        (
            {"training": {"kind": pb.MODEL_KIND_LOG_POOL,
                          "members": [{"features": ["momentum_21"]}, {"features": ["luck"]}]}},
            {"schedule.training.members[1].features[0]": "UNKNOWN_FEATURE"},
        ),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(
    client: Client, given: dict[str, Any], fields: dict[str, str]
) -> None:
    good = {"schedule_id": new_id("bad"), "universe_id": "u"}
    request = pb.SetModelScheduleRequest(schedule=pb.ModelSchedule(**{**good, **given}))
    assert (await refusal(client.learning.SetModelSchedule(request))).fields == fields


async def test_a_schedule_reads_stored_features_as_they_were_known(desk: Desk) -> None:
    """A value a day, known an hour before the close; of the first instrument none is known."""
    set_id = new_id("set")
    declared = feature_service_pb2.FeatureSet(feature_set_id=set_id, features=["breadth", "luck"])
    await desk.client.features.PutFeatureSet(
        feature_service_pb2.PutFeatureSetRequest(feature_set=declared)
    )
    random = np.random.default_rng(3)
    values = random.normal(size=(FIRST + 40, len(NAMES) - 1))
    for place, name in enumerate(NAMES[1:]):
        times = [START + timedelta(days=bar, hours=-1) for bar in range(FIRST + 40)]
        await desk.client.features.PutFeatures(
            feature_service_pb2.PutFeaturesRequest(
                feature_set_id=set_id,
                instrument_ids=[name] * len(times),
                as_of_times=[stamp(time) for time in times],
                known_times=[stamp(time) for time in times],
                features=[
                    sizing_pb2.FeatureColumn(name="breadth", values=values[:, place]),
                    sizing_pb2.FeatureColumn(name="luck", values=-values[:, place]),
                ],
            )
        )
    training = pb.TrainModelRequest(feature_set_id=set_id, stored_features=["breadth"])
    training.MergeFrom(SMALL)
    await desk.store(FIRST)
    await desk.set(training=training, promotion=pb.PROMOTION_POLICY_WITH_EVIDENCE)
    await desk.work(0.01)
    shown = await desk.shown()
    assert shown.failure == ""
    model = (await desk.model(shown.live_model_id)).model
    assert list(model.features) == [*FEATURES, "breadth"]
    assert model.feature_set_id == set_id
    assert model.report.rows == len(plain_bets(desk.closes[:FIRST, 1:])), "those with a value"

    portfolio_id = await desk.client.ready()
    lacking = await refusal(desk.sized(portfolio_id))
    assert "MISSING_FEATURE" in lacking.fields.values()
    now = stamp(datetime.now(UTC) - timedelta(seconds=5))
    row = feature_service_pb2.PutFeaturesRequest(
        feature_set_id=set_id, instrument_ids=["I0"], as_of_times=[now], known_times=[now],
        features=[
            sizing_pb2.FeatureColumn(name=name, values=[0.5]) for name in ("breadth", "luck")
        ],
    )  # fmt: skip
    await desk.client.features.PutFeatures(row)
    decision = await desk.sized(portfolio_id)
    assert decision.predictions[0].model_id == shown.live_model_id
    assert [item.name for item in decision.features[0].features] == ["breadth"]

    await desk.store(FIRST + 40)
    await desk.work(1.0)
    scored = (await desk.model(shown.live_model_id)).score_since
    until = model.report.trained_until_time.ToNanoseconds()
    every = plain_bets(desk.closes[: FIRST + 40, 1:])
    assert scored.rows == len([bet for bet in every if bet[0] >= until]) > 0

    def schedule(**given: Any) -> pb.SetModelScheduleRequest:
        asked = pb.ModelSchedule(
            schedule_id=desk.schedule, universe_id="u", training=pb.TrainModelRequest(**given)
        )
        return pb.SetModelScheduleRequest(schedule=asked)

    where = "schedule.training.stored_features"
    for given, fields in (
        ({"stored_features": ["breadth"]}, {where: "NOT_APPLICABLE"}),
        (
            {"feature_set_id": set_id, "stored_features": ["depth", FEATURES[0]]},
            {f"{where}[0]": "UNKNOWN_FEATURE", f"{where}[1]": "DUPLICATE"},
        ),
    ):
        refused = await refusal(desk.client.learning.SetModelSchedule(schedule(**given)))
        assert refused.fields == fields
    nowhere = await refusal(
        desk.client.learning.SetModelSchedule(schedule(feature_set_id="nowhere"))
    )
    assert nowhere.code.name == "NOT_FOUND"
