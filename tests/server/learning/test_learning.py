"""Models over gRPC: trained, judged, promoted, scored; bad input told by path."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import learning_service_pb2 as pb
from positionsizing.v1 import sizing_pb2
from scipy.special import expit

from server.calls.errors import Refusal
from server.convert.model_records import stored_message
from server.learning.models import read
from storage.postgres import models
from storage.postgres.models import StoredModel
from tests.server.support.service_client import Client, new_id, refusal, same

LONG_S = 600.0
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
NAMES = ("trend", "noise")


def moment(days: float) -> Timestamp:
    out = Timestamp()
    out.FromDatetime(BEGIN + timedelta(days=days))
    return out


def bets(
    n: int = 600, seed: int = 0, strength: float = 1.2, first_day: int = 0, **given: Any
) -> pb.TrainingRows:
    """Even-money bets, one a day, that `trend` knows something of and `noise` nothing."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    won = random.random(n) < expit(strength * x[:, 0])
    return pb.TrainingRows(
        features=[
            sizing_pb2.FeatureColumn(name=name, values=column)
            for name, column in zip(NAMES, x.T, strict=True)
        ],
        start_times=[moment(first_day + day) for day in range(n)],
        end_times=[moment(first_day + day + 0.5) for day in range(n)],
        won=won.tolist(),
        **given,
    )


def training(rows: pb.TrainingRows | None = None, **given: Any) -> pb.TrainModelRequest:
    given.setdefault("request_id", str(uuid4()))
    given.setdefault("model_id", new_id("model"))
    return pb.TrainModelRequest(rows=bets() if rows is None else rows, **given)


async def trained(client: Client, rows: pb.TrainingRows | None = None, **given: Any) -> pb.Model:
    request = training(rows, **given)
    return (await client.learning.TrainModel(request, timeout=LONG_S)).model


def promotion(model_id: str, stage: int, **given: Any) -> pb.PromoteModelRequest:
    given.setdefault("request_id", str(uuid4()))
    given.setdefault("reason", "beats the bars")
    return pb.PromoteModelRequest(model_id=model_id, stage=stage, **given)  # type: ignore[arg-type]


async def go_live(client: Client, model_id: str) -> None:
    for stage in (pb.MODEL_STAGE_SHADOW, pb.MODEL_STAGE_LIVE):
        await client.learning.PromoteModel(promotion(model_id, stage))


async def test_a_model_is_trained_judged_promoted_and_retired(client: Client) -> None:
    model = await trained(client, feature_version="v1")
    assert (model.kind, model.stage) == (pb.MODEL_KIND_LOGISTIC, pb.MODEL_STAGE_CANDIDATE)
    assert list(model.features) == list(NAMES)
    assert len(model.hash) == 64
    report = model.report
    assert report.rows == 600
    assert report.is_proven
    assert report.trained_until_time == moment(599.5)
    score = report.score
    assert score.rows == report.tested_rows == 500
    parts = score.reliability - score.resolution + score.uncertainty + score.within_groups
    assert score.brier == pytest.approx(parts, abs=1e-12)
    assert 0.0 < score.resolution < score.uncertainty <= 0.25
    assert score.implied.log_loss == pytest.approx(np.log(2.0), abs=1e-12)
    for bar in (score.climatology, score.implied):
        assert bar.is_beaten
        assert bar.e_value > 20.0
        assert bar.growth.mean == pytest.approx(bar.log_loss - score.log_loss, abs=1e-12)
    assert report.growth.low > 0.0

    first = await refusal(client.learning.PromoteModel(promotion(model.model_id, 3)))
    assert first.reason == "WRONG_STAGE"  # it has to be watched first
    await go_live(client, model.model_id)
    found = await client.learning.GetModel(pb.GetModelRequest(model_id=model.model_id))
    assert found.model.document == model.document
    assert [item.stage for item in found.stages] == [1, 2, 3]
    assert found.stages[2].reason == "beats the bars"
    assert found.stages[2].author
    listed = await client.learning.ListModels(
        pb.ListModelsRequest(stage=pb.MODEL_STAGE_LIVE, page_size=1000)
    )
    mine = next(item for item in listed.models if item.model_id == model.model_id)
    assert mine.document == ""
    assert mine.report == report
    await client.learning.PromoteModel(promotion(model.model_id, pb.MODEL_STAGE_RETIRED))
    back = await refusal(client.learning.PromoteModel(promotion(model.model_id, 2)))
    assert back.reason == "WRONG_STAGE"


async def test_a_retry_gets_the_stored_answer(client: Client) -> None:
    request = training(bets(120))
    first = await client.learning.TrainModel(request, timeout=LONG_S)
    again = await client.learning.TrainModel(request, timeout=LONG_S)
    assert same(first, again)
    other = training(bets(130), request_id=request.request_id)
    reused = await refusal(client.learning.TrainModel(other, timeout=LONG_S))
    assert (reused.code.name, reused.reason) == ("ABORTED", "REQUEST_ID_REUSED")
    taken = training(bets(120), model_id=request.model_id)
    exists = await refusal(client.learning.TrainModel(taken, timeout=LONG_S))
    assert exists.code is grpc.StatusCode.ALREADY_EXISTS


async def test_the_same_bets_make_the_same_model(client: Client) -> None:
    """Also in another order: what is learned is a function of the bets."""
    rows = bets(150)
    order = np.random.default_rng(1).permutation(150)
    shuffled = pb.TrainingRows(
        features=[
            sizing_pb2.FeatureColumn(name=c.name, values=np.array(c.values)[order])
            for c in rows.features
        ],
        start_times=[rows.start_times[i] for i in order],
        end_times=[rows.end_times[i] for i in order],
        won=[rows.won[i] for i in order],
    )
    first, second = await trained(client, rows), await trained(client, shuffled)
    assert first.hash == second.hash
    assert first.document == second.document


async def test_noise_never_goes_live(client: Client) -> None:
    model = await trained(client, bets(strength=0.0, seed=4))
    assert not model.report.is_proven
    await client.learning.PromoteModel(promotion(model.model_id, pb.MODEL_STAGE_SHADOW))
    refused = await refusal(client.learning.PromoteModel(promotion(model.model_id, 3)))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION, "NOT_PROVEN",
    )  # fmt: skip
    found = await client.learning.GetModel(pb.GetModelRequest(model_id=model.model_id))
    assert found.model.stage == pb.MODEL_STAGE_SHADOW


@pytest.mark.parametrize("kind", ["LOG_POOL", "WEALTH_MIXTURE"])
async def test_an_ensemble_is_a_model_like_any_other(client: Client, kind: str) -> None:
    members = [pb.ModelMember(features=["trend"]), pb.ModelMember(features=["noise"])]
    model = await trained(client, kind=f"MODEL_KIND_{kind}", members=members)
    report = model.report
    assert report.weights[0] > report.weights[1]
    assert sum(report.weights) == pytest.approx(1.0, abs=1e-12)
    assert 0.0 <= report.regret <= report.regret_max == pytest.approx(np.log(2.0))
    await go_live(client, model.model_id)


async def test_scores_since_count_and_may_end_a_model(client: Client) -> None:
    model = await trained(client)

    def later(first_day: int, **given: Any) -> pb.ScoreModelRequest:
        return pb.ScoreModelRequest(
            request_id=str(uuid4()), model_id=model.model_id,
            rows=bets(first_day=first_day, **given),
        )  # fmt: skip

    early = await refusal(client.learning.ScoreModel(later(500)))
    assert early.fields == {"rows.start_times[0]": "OVERLAPS_TRAINING"}
    good = later(600, n=100, seed=1)
    first = await client.learning.ScoreModel(good)
    assert first.score_since.rows == 100
    assert same(first, await client.learning.ScoreModel(good))
    twice = await refusal(client.learning.ScoreModel(later(699, n=20)))
    assert twice.fields == {"rows.start_times[0]": "NOT_LATER"}
    turned = await client.learning.ScoreModel(later(700, n=200, strength=-1.5, seed=2))
    assert turned.score_since.rows == 300
    assert turned.score_since.e_value_gone > 20.0
    found = await client.learning.GetModel(pb.GetModelRequest(model_id=model.model_id))
    assert found.score_since == turned.score_since
    await client.learning.PromoteModel(promotion(model.model_id, pb.MODEL_STAGE_SHADOW))
    gone = await refusal(client.learning.PromoteModel(promotion(model.model_id, 3)))
    assert gone.reason == "EDGE_GONE"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda r: setattr(r, "request_id", "seven"), "request_id"),
        (lambda r: setattr(r, "model_id", "a b"), "model_id"),
        (lambda r: setattr(r, "kind", 99), "kind"),
        (lambda r: setattr(r, "folds", 1), "folds"),
        (lambda r: setattr(r, "ridge", -1.0), "ridge"),
        (lambda r: setattr(r, "calibration", 77), "calibration"),
        (lambda r: r.embargo.FromSeconds(-5), "embargo"),
        (lambda r: r.ClearField("rows"), "rows.start_times"),
        (lambda r: r.rows.ClearField("features"), "rows.features"),
        (lambda r: setattr(r.rows.features[1], "name", "trend"), "rows.features[1].name"),
        (lambda r: setattr(r.rows.features[1], "name", ""), "rows.features[1].name"),
        (lambda r: r.rows.features[0].values.pop(), "rows.features[0].values"),
        (lambda r: r.rows.features[0].values.__setitem__(3, float("nan")),
         "rows.features[0].values[3]"),
        (lambda r: r.rows.features[0].values.__setitem__(3, 1e308), "rows.features[0].values[3]"),
        (lambda r: setattr(r, "ridge", float("inf")), "ridge"),
        (lambda r: setattr(r, "kelly_fraction", 0.0), "kelly_fraction"),
        (lambda r: setattr(r, "trials_before", -1), "trials_before"),
        (lambda r: r.rows.loss_fraction.extend([1.5] * 100), "rows.loss_fraction[0]"),
        (lambda r: r.rows.win_probability.extend([60.0] * 100), "rows.win_probability[0]"),
        (lambda r: r.rows.won.pop(), "rows.won"),
        (lambda r: r.rows.payoff.extend([1.0]), "rows.payoff"),
        (lambda r: r.rows.payoff.extend([0.0] * 100), "rows.payoff[0]"),
        (lambda r: r.rows.end_times[7].CopyFrom(r.rows.start_times[7]), "rows.end_times[7]"),
        (lambda r: r.rows.end_times[7].FromDatetime(datetime(2999, 1, 1)), "rows.end_times[7]"),
        (lambda r: r.rows.won.__setitem__(slice(0, 100), [True] * 100), "rows"),
        (lambda r: r.members.add(features=["trend"]), "members"),
        (lambda r: setattr(r, "kind", pb.MODEL_KIND_LOG_POOL), "members"),
        (lambda r: setattr(r, "kind", pb.MODEL_KIND_SIZE_MULTIPLIER), "rows.win_probability"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_by_its_path(client: Client, change: Any, path: str) -> None:
    request = training(bets(100))
    change(request)
    refused = await refusal(client.learning.TrainModel(request, timeout=LONG_S))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert path in refused.fields
    missing = await refusal(client.learning.GetModel(pb.GetModelRequest(model_id="none")))
    assert missing.code is grpc.StatusCode.NOT_FOUND


async def test_members_name_features_of_the_rows(client: Client) -> None:
    members = [pb.ModelMember(features=["trend"]), pb.ModelMember(features=["trend", "luck"])]
    request = training(bets(100), kind=pb.MODEL_KIND_LOG_POOL, members=members)
    refused = await refusal(client.learning.TrainModel(request, timeout=LONG_S))
    assert refused.fields == {"members[1].features[1]": "UNKNOWN_FEATURE"}


async def test_a_promotion_needs_a_reason_and_a_stage(client: Client) -> None:
    for given, path in (
        ({"reason": " "}, "reason"),
        ({"stage": 1}, "stage"),
        ({"stage": 9}, "stage"),
    ):
        request = promotion("nobody", given.pop("stage", 2), **given)  # type: ignore[arg-type]
        assert path in (await refusal(client.learning.PromoteModel(request))).fields


@pytest.mark.parametrize(
    ("document", "hashed", "reason"),
    [("{}", "[]", "MODEL_CORRUPT"), ("{}", "{}", "MODEL_UNREADABLE")],
)
def test_a_changed_byte_of_a_document_is_seen(document: str, hashed: str, reason: str) -> None:
    digest = hashlib.sha256(hashed.encode()).digest()
    stored = StoredModel("m", "ann", BEGIN, document, digest, b"", b"", "", "LIVE")
    with pytest.raises(Refusal) as refused:
        read(stored)
    assert refused.value.reason == reason


def test_what_is_stored_beside_a_document_is_checked_too() -> None:
    digest = hashlib.sha256(b"{}").digest()
    message = pb.Model(model_id="m", hash=digest.hex(), refuse_unbounded=True)
    message.report.is_proven = False
    whole = message.SerializeToString()
    own = hashlib.sha256(whole).digest()
    stored = StoredModel("m", "ann", BEGIN, "{}", digest, whole, own, "", "LIVE")
    assert stored_message(stored).refuse_unbounded
    other = pb.Model(model_id="n", hash=digest.hex()).SerializeToString()
    flipped = [
        bytes(value ^ (1 << bit) if place == at else value for place, value in enumerate(whole))
        for at in range(len(whole))
        for bit in range(8)
    ]
    for details in (whole[:-1], b"\x0f" + whole[1:], b"", other, *flipped):
        with pytest.raises(Refusal) as refused:
            stored_message(replace(stored, details=details))
        assert refused.value.reason == "MODEL_CORRUPT"


async def test_a_damaged_record_is_marked_in_a_list_of_models(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurt, whole = (await trained(client)).model_id, (await trained(client)).model_id
    list_page = models.list_page

    async def damaged(*given: Any, **more: Any) -> list[StoredModel]:
        rows = await list_page(*given, **more)
        cut = {"details": b"\x0f"}
        return [replace(row, **(cut if row.model_id == hurt else {})) for row in rows]

    monkeypatch.setattr(models, "list_page", damaged)
    answer = await client.learning.ListModels(pb.ListModelsRequest(page_size=1000))
    listed = {item.model_id: item for item in answer.models}
    assert "is not what was stored" in listed[hurt].damage
    assert listed[hurt].stage == pb.MODEL_STAGE_CANDIDATE
    assert not listed[hurt].HasField("report")
    assert listed[hurt].author
    assert listed[hurt].hash
    assert not listed[whole].damage
    assert listed[whole].report.rows


async def test_a_damaged_document_is_not_shown_as_a_model(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, get = await trained(client), models.get

    async def damaged(*given: Any) -> StoredModel:
        stored = await get(*given)
        return replace(stored, document=stored.document.replace("1", "2", 1))

    monkeypatch.setattr(models, "get", damaged)
    told = await refusal(client.learning.GetModel(pb.GetModelRequest(model_id=model.model_id)))
    assert (told.code.name, told.reason) == ("FAILED_PRECONDITION", "MODEL_CORRUPT")
