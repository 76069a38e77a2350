"""Generates the Python messages and stubs, and `service_config.json`, from the contract.

`python -m protos.generate` writes them; with `--check` it fails where the committed ones are not
what the contract gives.
"""

import argparse
import filecmp
import importlib.resources
import json
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from protos.service_config import service_config

PROTOS = Path(__file__).resolve().parent
PACKAGE = Path("positionsizing/v1")
SERVICE_CONFIG = "service_config.json"
COMMITTED = PROTOS / "python"
VERSION_INIT = '"""Generated from the contract in `protos/`."""\n'
PACKAGE_INIT = f'''{VERSION_INIT}
from importlib import resources

SERVICE_CONFIG = resources.files(__name__).joinpath("{SERVICE_CONFIG}").read_text()
"""How calls are spread and repeated, in JSON: the option "grpc.service_config" of a channel."""
'''


def generate(target: Path) -> None:
    """Runs protoc over the whole contract into `target`, with type stubs."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    plugins = Path(sys.executable).parent
    described = target / "contract.binpb"
    arguments = [
        "protoc",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"-I{PROTOS}",
        f"-I{well_known}",
        f"--descriptor_set_out={described}",
        "--include_imports",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    files = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes())
    described.unlink()
    words = json.dumps(service_config(files), indent=2)
    (target / "positionsizing" / SERVICE_CONFIG).write_text(words + "\n")
    for package, text in ((PACKAGE.parent, PACKAGE_INIT), (PACKAGE, VERSION_INIT)):
        (target / package / "__init__.py").write_text(text)
        (target / package / "py.typed").touch()


def differences(left: Path, right: Path) -> list[str]:
    """Names of the files that differ between two generated trees."""
    names = {
        PACKAGE / path.name for root in (left, right) for path in (root / PACKAGE).glob("*.py*")
    }
    return [
        str(name)
        for name in sorted(
            names | {PACKAGE.parent / name for name in ("__init__.py", SERVICE_CONFIG)}
        )
        if not (left / name).exists()
        or not (right / name).exists()
        or not filecmp.cmp(left / name, right / name, shallow=False)
    ]


def main() -> None:
    """Writes the generated tree, or compares it with the committed one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where committed code is stale")
    if not parser.parse_args().check:
        generate(COMMITTED)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = differences(Path(folder), COMMITTED)
    if stale:
        raise SystemExit(f"generated code is stale, run `make proto`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
