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
    "group.min.session.timeout.ms": "100",
    "group.max.size": "5",
    "auto.create.topics.enable": "false",
}
# How long groups wait for members in the scripts that are about it: long beside what a busy machine takes for a request.
DELAY_MS = 1500
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
    walks = ["--steps", str(steps), *([] if seed is None else ["--seed", str(seed)])]
    with_pair(binary, 0, lambda pair: report.test("differential: scripts and random walks", lambda: compare(command, pair, walks), timeout=600 + steps // 10))
    delayed = ["--initial-delay-ms", str(DELAY_MS)]
    with_pair(binary, DELAY_MS, lambda pair: report.test("differential: groups that wait for members", lambda: compare(command, pair, delayed), timeout=300))


def with_pair(binary, initial_delay_ms, work):
    settings = {**SETTINGS, "group.initial.rebalance.delay.ms": str(initial_delay_ms)}
    apache = ApacheKafka("differential-apache", install.peer(), {**settings, **APACHE_SETTINGS})
    kavka = Kavka("differential-kavka", binary, settings)
    try:
        work((kavka, apache))
    finally:
        kavka.close()
        apache.close()


def compare(command, pair, arguments):
    kavka, apache = pair
    arguments = ["--kavka", kavka.bootstrap, "--apache", apache.bootstrap, *arguments]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    check(done.returncode == 0, (done.stdout + done.stderr)[:20_000])
    return done.stdout.strip().splitlines()[-1]
