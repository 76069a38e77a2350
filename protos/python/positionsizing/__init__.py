"""Generated from the contract in `protos/`."""

from importlib import resources

SERVICE_CONFIG = resources.files(__name__).joinpath("service_config.json").read_text()
"""How calls are spread and repeated, in JSON: the option "grpc.service_config" of a channel."""
