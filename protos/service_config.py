"""How clients spread their calls and repeat them, derived from the contract.

The result is gRPC's own format, which channels of every language take: `service_config.json`, also
in the Python package. Calls go round the addresses that say SERVING; what answers UNAVAILABLE, and
may safely arrive twice, is sent again.

Source: gRPC, "Service Config" and proposal A6, "gRPC Retry Design".
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "positionsizing.v1"
READS = ("ACCESS_SCOPE_READ", "ACCESS_SCOPE_AUDIT_READ", "ACCESS_SCOPE_SIMULATE")
"""Scopes of methods that may arrive twice: a trial of a backtest is counted once by what it is."""
RETRY_POLICY = {
    # Five attempts over some two seconds: a server that stops tells its clients at once, and its
    # place is taken by another by then.
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# Where more than every tenth call is repeated it is load, and repeating makes it worse.
RETRY_THROTTLING = {"maxTokens": 100, "tokenRatio": 0.1}


def service_config(files: descriptor_pb2.FileDescriptorSet) -> dict[str, Any]:
    """The configuration for a contract with its imports."""
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    names = [
        {"service": service.full_name, "method": method.name}
        for file in sorted(files.file, key=lambda file: file.name)
        if file.package == PACKAGE
        for name in file.service
        for service in [pool.FindServiceByName(f"{PACKAGE}.{name.name}")]
        for method in service.methods
        if _may_repeat(pool, method)
    ]
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": f"{PACKAGE}.SizingService"},
        "methodConfig": [{"name": names, "retryPolicy": RETRY_POLICY}],
        "retryThrottling": RETRY_THROTTLING,
    }


def _may_repeat(pool: descriptor_pool.DescriptorPool, method: MethodDescriptor) -> bool:
    fields = method.input_type.fields_by_name
    if "request_id" in fields:
        return True  # required where anything is recorded; the same id is carried out once
    if method.name.startswith("Start"):
        return False  # its `job_id` may be left out, and each arrival would begin the work anew
    return _scope(pool, method) in READS


def _scope(pool: descriptor_pool.DescriptorPool, method: MethodDescriptor) -> str:
    """Name of the scope that a method asks for."""
    access = pool.FindExtensionByName(f"{PACKAGE}.access")
    options = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.MethodOptions"))
    stated = options.FromString(method.GetOptions().SerializeToString()).Extensions[access]
    return str(
        pool.FindEnumTypeByName(f"{PACKAGE}.AccessScope").values_by_number[stated.scope].name
    )
