"""Health speaks for each service: its programs, the database, the end of the process."""

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from server.calls.health import Health


class Context:
    """What the health servicer asks of a call."""

    def set_code(self, code: object) -> None:
        raise AssertionError(code)

    def set_details(self, text: str) -> None:
        raise AssertionError(text)


async def status(health: Health, name: str) -> str:
    answer: Message = await health.servicer.Check(
        health_pb2.HealthCheckRequest(service=name), Context()
    )
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def test_a_service_serves_when_its_programs_are_there_and_the_database_answers() -> None:
    ready, there = {"first": True, "joint": False}, True

    async def answers(deadline_s: float) -> bool:
        del deadline_s
        return there

    services = {"sizing": lambda: ready["first"], "optimization": lambda: ready["joint"]}
    health = Health(services, answers)
    await health.look()
    assert await status(health, "sizing") == "SERVING"
    assert await status(health, "optimization") == "NOT_SERVING"
    ready["joint"] = True
    await health.look()
    assert await status(health, "optimization") == "SERVING"
    there = False  # refuses connections
    await health.look()
    assert [await status(health, name) for name in services] == ["NOT_SERVING"] * 2
    there = True
    await health.look()
    assert [await status(health, name) for name in services] == ["SERVING"] * 2
    await health.stopping()
    await health.look()
    assert [await status(health, name) for name in services] == ["NOT_SERVING"] * 2
