"""Where things are. Everything that a run makes is below `WORK`."""

import os
from pathlib import Path

COMPAT = Path(__file__).resolve().parent.parent
ROOT = COMPAT.parent
WORK = COMPAT / ".work"
VENV = WORK / "venv"
JAVA = WORK / "java"
# Each run has a folder of its own; it stays only when something failed.
RUN = WORK / f"run-{os.getpid()}"
LOGS = RUN / "logs"
DATA = RUN / "data"
# An optional neighbour of the repository: scripts that start an Apache Kafka and run its tools. APACHE_KAFKA_PEER moves it.
PEER = Path(os.environ.get("APACHE_KAFKA_PEER", ROOT.parent / "shared" / "peers" / "apache-kafka"))
