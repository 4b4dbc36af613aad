"""The command line: which suites, against which broker."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib import clients, install
from lib.broker import ApacheKafka, Kavka, Running
from lib.checks import Report
from lib.install import Missing
from lib.paths import LOGS, ROOT, RUN, WORK
from suites import admin, client, command_line, connect, differential, go_clients, kcat, kill_loop, main_job, old_brokers, protocol, rust_client, streams, tools

SUITES = ["kcat", *clients.KINDS, "go", "rust", "admin", "old-brokers", "tools", "command-line", "protocol", "connect", "streams", "kill-loop", "main-job", "differential"]
NEED_CONTROL = ["kill-loop", "main-job"]
# They start brokers of their own, and why that is not what --bootstrap and --apache ask for.
WITH_OWN_BROKERS = {"differential": "compares a Kavka with an Apache Kafka", "old-brokers": "tests Apache Kafkas of its own"}
# They run the binary, whatever the broker is.
OF_THE_COMMAND_LINE = {"command-line": command_line, "admin": admin}
WITHOUT_PYTHON_CLIENTS = [*WITH_OWN_BROKERS, "admin"]


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="compat/run",
        description="Runs unmodified Kafka clients and tools against a broker and checks what they see.",
        epilog="Exit code: 0 when everything that ran passed, 1 when something failed or nothing passed, 2 for wrong usage.",
    )
    target = parser.add_mutually_exclusive_group()
    parser.add_argument("--kavka", metavar="PATH", help="the kavka binary: the broker, and the command line that is tested (default: target/release/kavka, built first)")
    target.add_argument("--bootstrap", metavar="HOST:PORT", help="a broker that runs already; suites that restart it are skipped")
    target.add_argument("--apache", action="store_true", help="Apache Kafka from ../shared/peers/apache-kafka, to check the suites themselves")
    parser.add_argument("--only", metavar="SUITE", action="append", choices=SUITES, help=f"repeatable; one of {', '.join(SUITES)}")
    parser.add_argument("--cycles", type=int, default=50, help="kill-loop: how many kills (default 50)")
    parser.add_argument("--lines", type=int, default=1_000_000, help="main-job: at least so many lines (default 1000000)")
    parser.add_argument("--seed", type=int, default=None, help="kill-loop: seed of the times between kills (default: random); differential: of the walks (default 1)")
    parser.add_argument("--version", metavar="X.Y.Z", action="append", help=f"old-brokers: repeatable; of Apache Kafka (default {', '.join(old_brokers.VERSIONS)})")
    parser.add_argument("--steps", type=int, default=2000, help="differential: steps of the random walks (default 2000)")
    return parser.parse_args(argv)


def build_kavka():
    print("building kavka (release)", file=sys.stderr, flush=True)
    done = subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "kavka"], cwd=ROOT, check=False)
    if done.returncode != 0:
        raise Missing("cargo build --release failed")
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release", "kavka")


def main(argv):
    options = arguments(argv)
    # An interrupted run ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    remove_old_runs()
    report = Report()
    begun = time.monotonic()
    try:
        if options.bootstrap:
            fresh = lambda name: Running(options.bootstrap)  # noqa: E731
        elif options.apache:
            peer = install.peer()
            fresh = lambda name: ApacheKafka(name, peer)  # noqa: E731
        else:
            binary = options.kavka or build_kavka()
            fresh = lambda name: Kavka(name, binary)  # noqa: E731
    except Missing as reason:
        print(f"compat/run: {reason}", file=sys.stderr)
        return 1

    for suite in SUITES:
        if options.only and suite not in options.only:
            continue
        if options.bootstrap and suite in NEED_CONTROL:
            report.skip(suite, "this broker is not ours to kill")
            continue
        if (options.bootstrap or options.apache) and suite in WITH_OWN_BROKERS:
            report.skip(suite, WITH_OWN_BROKERS[suite])
            continue
        started = time.monotonic()
        broker = None
        try:
            needs(suite)
            if suite == "differential":
                differential.run(binary, report, options.seed, options.steps)
            elif suite == "old-brokers":
                old_brokers.run(report, binary, options.version)
            else:
                broker = fresh(suite)
                if suite in OF_THE_COMMAND_LINE:
                    OF_THE_COMMAND_LINE[suite].run(broker, report, options.kavka or build_kavka())
                else:
                    run(suite, broker, report, options)
        except Missing as reason:
            report.skip(suite, str(reason))
        except Exception as error:  # noqa: BLE001  one suite must not end the others
            report.failed.append(suite)
            print(f"FAIL {suite}: {type(error).__name__}: {error}", flush=True)
        finally:
            if broker is not None:
                broker.close()
        print(f"     {suite}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"{time.monotonic() - begun:.0f} s in all")
    if report.failed:
        print(f"logs of clients, loads and brokers: {LOGS}")
    else:
        shutil.rmtree(RUN, ignore_errors=True)
    return report.close()


def remove_old_runs():
    """Folders of failed runs that are over go when the next run starts."""
    for folder in WORK.glob("run-*"):
        if not Path(f"/proc/{folder.name.removeprefix('run-')}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def needs(suite):
    """Installs what a suite needs before its broker starts."""
    if suite not in WITHOUT_PYTHON_CLIENTS:
        install.venv()
    if suite == "kcat":
        install.kcat()
    elif suite in ("tools", "command-line", "differential"):
        install.peer()
    elif suite == "go":
        install.go_groups()
    elif suite == "connect":
        install.connect_worker()
    elif suite == "streams":
        install.word_count()
    elif suite == "main-job":
        install.word_list()
    if suite in ("java", "kill-loop", "main-job"):
        install.java_driver()


def run(suite, broker, report, options):
    if suite in clients.KINDS:
        client.run(suite, broker, report)
    elif suite == "kcat":
        kcat.run(broker, report)
    elif suite == "tools":
        tools.run(broker, report)
    elif suite == "go":
        go_clients.run(broker, report)
    elif suite == "rust":
        rust_client.run(broker, report)
    elif suite == "protocol":
        protocol.run(broker, report)
    elif suite == "connect":
        connect.run(broker, report)
    elif suite == "streams":
        streams.run(broker, report)
    elif suite == "kill-loop":
        kill_loop.run(broker, report, options.cycles, options.seed)
    else:
        main_job.run(broker, report, options.lines)
