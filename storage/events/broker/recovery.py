"""What a broker whose last run was killed needs before it can start on its data again."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

_SHELL = "org.apache.bookkeeper.bookie.BookieShell"
_DRIVERS = "org.apache.pulsar.metadata.bookkeeper.PulsarMetadata"
_TIMEOUT_S = 60.0


def forget_registration(java: Sequence[str], classpath: str, data_dir: Path) -> None:
    """Drop what a killed storage node left in the metadata: that it is there.

    The next run would find it, remove it and register itself, and if the notice of the removal
    comes late take it for its own: it then removes and registers itself without end, and topics
    fail with "Not enough non-faulty bookies available". Listing the nodes while none runs drops
    those of earlier runs; it takes a second.

    `java` is the program with its options. What keeps this from being read keeps the broker from
    starting, which says so.
    """
    metadata = data_dir / "metadata"
    if not metadata.is_dir():
        return  # the first run
    settings = data_dir / "shell.conf"
    settings.write_text(f"metadataServiceUri=metadata-store:rocksdb://{metadata.resolve()}\n")
    drivers = (
        f"-Dbookkeeper.metadata.client.drivers={_DRIVERS}ClientDriver",
        f"-Dbookkeeper.metadata.bookie.drivers={_DRIVERS}BookieDriver",
    )
    subprocess.run(
        [*java, *drivers, "-cp", classpath, _SHELL, "-conf", str(settings), "listbookies", "-rw"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_S,
        cwd=data_dir,
    )
