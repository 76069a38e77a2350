"""The broker's jars: fetched once by Maven into a cache folder, used from there ever after."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from storage.errors import StorageError

CACHE_VARIABLE = "PULSAR_JARS_CACHE"

_HERE = Path(__file__).parent
_PROJECT = _HERE.parents[2]
_FETCH_TIMEOUT_S = 900.0


class BrokerMissing(StorageError):
    """This machine lacks what a local broker needs; the message names it and the way out."""

    reason = "BROKER_MISSING"


def default_cache() -> Path:
    """Where the jars live: $PULSAR_JARS_CACHE, else .cache/pulsar of the project."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else _PROJECT / ".cache" / "pulsar"


def java() -> str:
    """The path of `java`, JAVA_HOME before PATH.

    Errors: `BrokerMissing` if there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    return found or _program("java", "a Java runtime (17 or 21)")


def fetch(cache: Path | None = None) -> Path:
    """The folder with the jars, fetched if it isn't there yet (235 MB, about a minute).

    Two processes that ask at once share one download. A folder that is there is complete: Maven
    writes beside it and the result is renamed.

    Errors: `BrokerMissing` without Maven, or with Maven's own words if it fails.
    """
    cache = (cache or default_cache()).resolve()
    lib = cache / "lib"
    if lib.is_dir():
        return lib
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not lib.is_dir():
            _download(cache / "lib.new")
            (cache / "lib.new").rename(lib)
    return lib


def _download(target: Path) -> None:
    maven = _program("mvn", "Maven (3.6 or later)")
    shutil.rmtree(target, ignore_errors=True)
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={target}")
    done = subprocess.run(
        [maven, "-q", "-B", "-f", str(_HERE / "pom.xml"), *goal],
        capture_output=True,
        text=True,
        check=False,
        timeout=_FETCH_TIMEOUT_S,
    )
    if done.returncode != 0 or not target.is_dir():
        raise BrokerMissing(
            f"mvn could not fetch the broker: {(done.stdout + done.stderr)[-2000:]}"
        )


def _program(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BrokerMissing(
            f"`{name}` was not found: a local Pulsar needs {what}. Install it, or name a running "
            "broker in the configuration, or go on without: events then wait in the outbox."
        )
    return found
