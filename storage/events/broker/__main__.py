"""`python -m storage.events.broker`: a broker in the foreground, until interrupted."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from storage.errors import StorageError
from storage.events.broker.jars import default_cache
from storage.events.broker.process import LocalBroker, Ports


def main() -> int:
    """Run the broker; 0 after an interrupt, 1 if it can't start or ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m storage.events.broker", description=__doc__)
    parser.add_argument("--data", type=Path, default=default_cache() / "data", help="data folder")
    parser.add_argument("--port", type=int, default=Ports.service, help="for clients")
    parser.add_argument("--web-port", type=int, default=Ports.web, help="for the admin API")
    parser.add_argument("--bookie-port", type=int, default=Ports.bookie, help="internal")
    options = parser.parse_args()
    ports = Ports(options.port, options.web_port, options.bookie_port)
    broker = LocalBroker(options.data.resolve(), ports)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        print(
            "starting Apache Pulsar (the first time it is fetched: about a minute) ...", flush=True
        )
        broker.start()
        print(f"serving {broker.service_url}  admin {broker.admin_url}  data {broker.data_dir}")
        print("end with Ctrl-C; the data is kept", flush=True)
        status = broker.wait()
        print(f"the broker ended by itself ({status}); see {broker.log}", file=sys.stderr)
        return 1
    except StorageError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        broker.stop()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
