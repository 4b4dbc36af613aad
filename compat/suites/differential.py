"""Raw requests to this broker and to an Apache Kafka beside it: every answer and every stored record has to be the same.

The program is in `differential/`; this starts the second broker, builds the program and runs it.
"""

import os
import shutil
import subprocess

from lib import install
from lib.broker import ApacheKafka, Kavka
from lib.checks import check
from lib.install import Missing
from lib.paths import ROOT

# What the program asks of both brokers, so that nothing but the requests makes a group go on.
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "group.max.size": "5",
    "auto.create.topics.enable": "false",
}
# One thread for each kind of work: requests take effect in the order in which they were sent.
APACHE_SETTINGS = {"group.coordinator.append.linger.ms": "0", "num.io.threads": "1", "num.network.threads": "1"}


def program():
    """The path of the program, built."""
    if shutil.which("cargo") is None:
        raise Missing("cargo is not installed")
    build = ["cargo", "build", "--release", "--quiet", "--locked", "-p", "kavka-differential"]
    # Our own source: that it does not compile is a failure, not something missing.
    subprocess.run(build, cwd=ROOT, check=True)
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release", "kavka-differential")


def run(binary, report, seed, steps):
    command = program()
    apache = ApacheKafka("differential-apache", install.peer(), {**SETTINGS, **APACHE_SETTINGS})
    kavka = Kavka("differential-kavka", binary, SETTINGS)
    try:
        report.test("differential: scripts and random walks", lambda: compare(command, kavka, apache, seed, steps), timeout=600 + steps // 10)
    finally:
        kavka.close()
        apache.close()


def compare(command, kavka, apache, seed, steps):
    arguments = ["--kavka", kavka.bootstrap, "--apache", apache.bootstrap, "--steps", str(steps)]
    if seed is not None:
        arguments += ["--seed", str(seed)]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    check(done.returncode == 0, (done.stdout + done.stderr)[:20_000])
    return done.stdout.strip().splitlines()[-1]
