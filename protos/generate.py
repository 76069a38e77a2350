"""Generates the Python messages and stubs from the contract into `protos/python`.

`python -m protos.generate` writes them; with `--check` it fails where the committed ones are not
what the contract gives.
"""

import argparse
import filecmp
import importlib.resources
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
PACKAGE = Path("positionsizing/v1")
COMMITTED = PROTOS / "python"


def generate(target: Path) -> None:
    """Runs protoc over the whole contract into `target`, with type stubs."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    plugins = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"-I{PROTOS}",
        f"-I{well_known}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    for package in (target / "positionsizing", target / PACKAGE):
        (package / "__init__.py").write_text('"""Generated from the contract in `protos/`."""\n')
        (package / "py.typed").touch()


def differences(left: Path, right: Path) -> list[str]:
    """Names of the files that differ between two generated trees."""
    names = {path.name for root in (left, right) for path in (root / PACKAGE).glob("*.py*")}
    return [
        name
        for name in sorted(names)
        if not (left / PACKAGE / name).exists()
        or not (right / PACKAGE / name).exists()
        or not filecmp.cmp(left / PACKAGE / name, right / PACKAGE / name, shallow=False)
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
