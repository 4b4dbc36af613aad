"""Where things are. Everything that a run makes is below `WORK`."""

import os
from pathlib import Path

COMPAT = Path(__file__).resolve().parent.parent
ROOT = COMPAT.parent
WORK = COMPAT / ".work"
VENV = WORK / "venv"
JAVA = WORK / "java"
LOGS = WORK / "logs"
DATA = WORK / "data"
# An optional neighbour of the repository: scripts that start an Apache Kafka and run its tools. APACHE_KAFKA_PEER moves it.
PEER = Path(os.environ.get("APACHE_KAFKA_PEER", ROOT.parent / "shared" / "peers" / "apache-kafka"))
