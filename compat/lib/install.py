"""Installs what the suites need, each once: a Python venv, the Java programs with their jars, kcat, a word list.

Every function either leaves the thing usable or raises `Missing` with what a person would do about it.
"""

import hashlib
import os
import shutil
import subprocess
import sys

from lib.paths import COMPAT, JAVA, PEER, WORK, VENV


class Missing(Exception):
    pass


_failed = {}


def once(function):
    """A step that failed is not tried again in the same run."""

    def wrapped(*arguments):
        step = (function.__name__, *arguments)
        if step not in _failed:
            try:
                _failed[step] = (function(*arguments), None)
            except Missing as reason:
                _failed[step] = (None, reason)
        answer, reason = _failed[step]
        if reason is not None:
            raise reason
        return answer

    return wrapped


def _run(command, what, timeout=600, env=None):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{what}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise Missing(f"{what}: {' '.join(map(str, command[:4]))} ended with {done.returncode}\n{tail}")
    return done.stdout


def _stamp(*files):
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


@once
def venv():
    """The interpreter of the venv with the pinned clients."""
    wanted = COMPAT / "clients" / "requirements.txt"
    stamp, python = VENV / "stamp", VENV / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != _stamp(wanted):
        print("installing the Python clients", file=sys.stderr, flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        WORK.mkdir(exist_ok=True)
        _run([sys.executable, "-m", "venv", str(VENV)], "cannot make a venv (Debian: package python3-venv)")
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)], "cannot install the Python clients")
        stamp.write_text(_stamp(wanted))
    return str(python)


# Small and quick to start: up to four of these share the machine with a broker.
_JVM = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]


def _java(what, target, folder, source=None, properties=()):
    """Fetches the jars that `folder`/pom.xml names with these properties and compiles `source`; answers the class path."""
    pom = folder / "pom.xml"
    files = [pom, folder / "src" / source] if source else [pom]
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed (Java 17 and Maven are needed)")
    stamp = target / "stamp"
    if not stamp.exists() or stamp.read_text() != _stamp(*files):
        print(f"installing {what}", file=sys.stderr, flush=True)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        _run(
            ["mvn", "--quiet", "--batch-mode", "--file", str(pom), f"-Dmaven.repo.local={WORK / 'm2'}"]
            + [f"-D{name}={value}" for name, value in properties]
            + ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target / 'libs'}"],
            f"cannot fetch {what}",
        )
        if source:
            # Our own source: that it does not compile is a failure, not something missing.
            subprocess.run(["javac", "-cp", f"{target / 'libs'}/*", "-d", str(target / "classes"), str(files[1])], check=True)
        stamp.write_text(_stamp(*files))
    return f"{target / 'classes'}:{target / 'libs'}/*" if source else f"{target / 'libs'}/*"


@once
def java_driver():
    """The command that starts the Java driver."""
    return [*_JVM, "-Xmx192m", "-cp", _java("the Java client", JAVA, COMPAT / "clients" / "java", "Driver.java"), "Driver"]


@once
def connect_worker():
    """The command that starts a distributed worker of Kafka Connect; a properties file follows."""
    folder = COMPAT / "clients" / "connect"
    path = _java("Kafka Connect", WORK / "connect", folder)
    log = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    return [*_JVM, "-Xmx256m", log, "-cp", path, "org.apache.kafka.connect.cli.ConnectDistributed"]


@once
def word_count():
    """The command that starts an instance of the Kafka Streams application."""
    path = _java("Kafka Streams", WORK / "streams", COMPAT / "clients" / "streams", "WordCount.java")
    return [*_JVM, "-Xmx256m", "-cp", path, "WordCount"]


@once
def old_kafka(version):
    """The class path of an Apache Kafka broker of this version, and of its ZooKeeper."""
    # Before 2.4 there was no Scala 2.13, and ZooKeeper was 3.4.
    is_early = tuple(map(int, version.split("."))) < (2, 4)
    properties = [("kafka.version", version), ("scala.version", "2.12" if is_early else "2.13"), *([("zookeeper.version", "3.4.12")] if is_early else [])]
    return _java(f"Apache Kafka {version}", WORK / "brokers" / version, COMPAT / "brokers", properties=properties)


@once
def go_groups():
    """The program of the Go clients."""
    source = COMPAT / "clients" / "go"
    files = [source / "main.go", source / "go.mod", source / "go.sum"]
    if shutil.which("go") is None:
        raise Missing("go is not installed (1.26 or newer)")
    program, stamp = WORK / "go" / "groups", WORK / "go" / "stamp"
    if not stamp.exists() or stamp.read_text() != _stamp(*files):
        print("installing the Go clients", file=sys.stderr, flush=True)
        program.parent.mkdir(parents=True, exist_ok=True)
        _run(["go", "-C", str(source), "mod", "download"], "cannot fetch franz-go and sarama")
        # Our own source: that it does not compile is a failure, not something missing.
        subprocess.run(["go", "-C", str(source), "build", "-o", str(program), "."], check=True)
        stamp.write_text(_stamp(*files))
    return str(program)


def _debian_package(name):
    if shutil.which("apt-get") is None:
        raise Missing(f"no apt-get here; install {name} by hand")
    if os.geteuid() != 0:
        raise Missing(f"not root; run: apt-get install {name}")
    print(f"installing the Debian package {name}", file=sys.stderr, flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", name]
    try:
        _run(install, f"cannot install {name}", env=env)
    except Missing:
        _run(["apt-get", "update", "--quiet"], "apt-get update failed", env=env)
        _run(install, f"cannot install {name}", env=env)


@once
def kcat():
    if shutil.which("kcat") is None:
        _debian_package("kcat")
    return shutil.which("kcat")


WORD_LISTS = ["/usr/share/dict/american-english-huge", "/usr/share/dict/american-english", "/usr/share/dict/words"]


@once
def word_list():
    """A file with one word a line; the largest that Debian offers here."""
    found = next((path for path in WORD_LISTS if os.path.exists(path)), None)
    if found is None:
        _debian_package("wamerican-huge")
        found = next((path for path in WORD_LISTS if os.path.exists(path)), None)
    if found is None:
        raise Missing("no word list in /usr/share/dict (Debian: package wamerican-huge)")
    return found


@once
def peer():
    """The folder with Apache Kafka's scripts, installed."""
    if not (PEER / "start").exists():
        raise Missing("../shared/peers/apache-kafka is absent")
    _run([str(PEER / "install")], "cannot install Apache Kafka")
    return PEER
