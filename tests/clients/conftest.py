"""The clients' tests start the service as the server's tests do."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "server"))
