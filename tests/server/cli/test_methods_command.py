"""`sizing methods`."""

from positionsizing.v1 import parameter_service_pb2, types_pb2

from tests.server.cli.test_commands import Sizing, sizing

__all__ = ["sizing"]


async def test_every_way_is_listed_with_where_it_is_chosen(sizing: Sizing) -> None:
    shown = (await sizing("methods")).out
    for word in ("RISK_PARITY", "UNCORRELATED", "MAX_DIVERSIFICATION", "in EstimateMatrix"):
        assert word in shown
    for cut in ("et al\n", "e.g\n", "i.e\n"):
        assert cut not in "".join(f"{line.rstrip()}\n" for line in shown.splitlines())
    found = {group["title"]: group for group in (await sizing("methods", "--json")).json}
    names = [way["name"] for way in found["methods"]["ways"]]
    prefix = "SIZING_METHOD_"
    assert [prefix + name for name in names] == list(types_pb2.SizingMethod.keys())[1:]
    fields = parameter_service_pb2.SizingParameters.DESCRIPTOR.fields
    assert [way["name"] for way in found["parameters"]["ways"]] == [f.name for f in fields]
    assert all(way["text"] for group in found.values() for way in group["ways"])


async def test_words_choose(sizing: Sizing) -> None:
    shown = await sizing("methods", "worst", "ellipsoid")
    assert "ELLIPSOID" in shown.out
    assert "Garlappi" in shown.out
    assert "WASSERSTEIN" not in shown.out
    none = await sizing("methods", "astrology")
    assert (none.code, "nothing says" in none.err) == (1, True)
