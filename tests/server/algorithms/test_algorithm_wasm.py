"""WebAssembly sizes, inside its fuel and memory and without a way out."""

import hashlib
from pathlib import Path

import pytest
from positionsizing.v1 import parameter_service_pb2, sizing_pb2, sizing_service_pb2, types_pb2

from compute.shapes import KernelRegistry
from server.algorithms.asked import AlgorithmError
from server.algorithms.conformance import Verdict, book, conformance
from server.algorithms.registry import Algorithms
from server.config import ConfigError
from storage import embedded
from tests.server.support.service_client import Client, sizing_request, started

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "algorithms" / "fraction_kelly.wat"
ALLOCATE = '(func (export "allocate") (param i32) (result i32) (i32.const {}))'
SIZE = '(func (export "size") (param i32 i32 i32 i32 i32) {})'


def settings(folder: Path, code: Path, more: str = 'version = "1.0"') -> Path:
    pinned = hashlib.sha256(code.read_bytes()).hexdigest()
    path = folder / "algorithms.toml"
    path.write_text(
        f'[strange]\nwasm = "{code}"\nsha256 = "{pinned}"\ndeadline_ms = 10000\n'
        f'numbers = ["kelly_fraction", "most"]\n{more}\n'
    )
    return path


def module(folder: Path, size: str, allocate: str = "1024", pages: str = "4") -> Path:
    path = folder / "strange.wat"
    path.write_text(
        f'(module (memory (export "memory") {pages}) {ALLOCATE.format(allocate)} '
        f"{SIZE.format(size)})"
    )
    return path


async def test_the_example_does_what_it_has_to(tmp_path: Path) -> None:
    chosen = Algorithms.of(settings(tmp_path, EXAMPLE))
    found = await conformance("strange", chosen, {"most": 0.05})
    assert Verdict.FAIL not in {item.verdict for item in found}, found
    assert "wasm" in (EXAMPLE.parent / "algorithms.toml").read_text()
    pinned = hashlib.sha256(EXAMPLE.read_bytes()).hexdigest()
    assert pinned in (EXAMPLE.parent / "algorithms.toml").read_text(), "pin it again"


async def test_it_sizes_through_the_service_and_replays(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    file = settings(tmp_path, EXAMPLE)
    async with (
        started(postgres_server, kernels, tmp_path / "data", algorithms_file=file) as app,
        Client.connected(app.port) as client,
    ):
        portfolio_id = await client.ready()
        request = sizing_request(portfolio_id, ["I0", "I1"], {"win_probability": [0.6, 0.53]})
        request.method = types_pb2.SIZING_METHOD_CUSTOM
        request.algorithm.name = "strange"
        request.algorithm.parameters.append(
            parameter_service_pb2.AlgorithmParameter(name="most", value=0.04)
        )
        decision = await client.size(request)
        assert list(decision.algorithm.weight) == pytest.approx([0.04, 0.03])
        assert decision.algorithm.tier == sizing_pb2.ALGORITHM_TIER_WASM
        wanted = sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
        assert (await client.sizing.ReplayDecision(wanted)).lots_equal


@pytest.mark.parametrize(
    ("size", "allocate", "words"),
    [
        ("(loop $l (br $l))", "1024", "fuel"),
        ("unreachable", "1024", "trapped"),
        ("(drop (i32.load (i32.const -4)))", "1024", "trapped"),
        ("", "-8", "isn't in its memory"),
        ("", "200000000", "isn't in its memory"),
    ],
)
async def test_what_goes_wrong_is_an_error(
    tmp_path: Path, size: str, allocate: str, words: str
) -> None:
    chosen = Algorithms.of(settings(tmp_path, module(tmp_path, size, allocate)))
    with pytest.raises(AlgorithmError, match=words) as raised:
        await chosen.ask("strange", book(8), 60.0)
    assert raised.value.reason == "ERROR"


async def test_memory_is_bounded(tmp_path: Path) -> None:
    large = module(tmp_path, "", pages="4096")  # 256 MiB at once
    chosen = Algorithms.of(settings(tmp_path, large, 'version = "1"\nmemory_mb = 16'))
    with pytest.raises(AlgorithmError, match="memory"):
        await chosen.ask("strange", book(8), 60.0)


async def test_nothing_is_kept_between_questions(tmp_path: Path) -> None:
    counts = tmp_path / "counts.wat"
    counts.write_text(
        '(module (memory (export "memory") 4) (global $n (mut f64) (f64.const 0)) '
        '(global $at (mut i32) (i32.const 0)) (func (export "allocate") (param $b i32) (result i32)'
        " (global.set $at (i32.add (global.get $at) (i32.const 8192))) (global.get $at))"
        + SIZE.format(
            "(global.set $n (f64.add (global.get $n) (f64.const 0.001)))"
            " (f64.store (local.get 4) (global.get $n))"
        )
        + ")"
    )
    chosen = Algorithms.of(settings(tmp_path, counts))
    answers = [(await chosen.ask("strange", book(1), 60.0)).weight.tolist() for _ in range(3)]
    assert answers == [[0.001]] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('(module (import "env" "now" (func)))', "imports something"),
        ("(module)", "doesn't export allocate, memory, size"),
        ("(module", "no module"),
        ("\x00asm\x01", "no module"),
    ],
)
def test_what_is_no_algorithm_stops_the_server(tmp_path: Path, text: str, words: str) -> None:
    code = tmp_path / "code.wasm"
    code.write_text(text)
    with pytest.raises(ConfigError, match=words):
        Algorithms.of(settings(tmp_path, code))


def test_a_module_says_its_version_and_is_pinned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="version"):
        Algorithms.of(settings(tmp_path, EXAMPLE, ""))
    file = settings(tmp_path, EXAMPLE)
    file.write_text(file.read_text().replace('sha256 = "', 'sha256 = "' + "0" * 64 + '"\n#'))
    with pytest.raises(ConfigError, match="SHA-256"):
        Algorithms.of(file)
