"""Kavka's own admin client: every call once, on this broker; and over TLS and SASL on an Apache Kafka that has every listener, there the
command line too.

The program is `crates/client/examples/admin_tour.rs`. Its lines begin with `ok`, `skip` or `FAIL`.
"""

import json
import os
import shutil
import subprocess

from lib import install
from lib.broker import ApacheKafka, free_port
from lib.checks import check, equal
from lib.install import Missing
from lib.paths import DATA, ROOT
from lib.scenes import unique

USER, PASSWORD = "compat-live", "live-secret"
MODULES = "org.apache.kafka.common.security"
PLAIN = f"{MODULES}.plain.PlainLoginModule required"
SCRAM = f"{MODULES}.scram.ScramLoginModule required"
BEARER = f'{MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="{USER}";'


def program():
    """The path of the program, built."""
    if shutil.which("cargo") is None:
        raise Missing("cargo is not installed")
    # Our own source: that it does not compile is a failure, not something missing.
    subprocess.run(["cargo", "build", "--quiet", "--locked", "-p", "kavka-client", "--example", "admin_tour"], cwd=ROOT, check=True)
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "debug", "examples", "admin_tour")


def run(broker, report, binary):
    command = program()
    report.test("admin: every call", lambda: tour(command, broker.bootstrap))
    try:
        peer = install.peer()
        folder = certificates()
    except Missing as reason:
        for name, *_ in WAYS:
            report.skip(f"admin: {name} of Apache Kafka", str(reason))
        return
    apache = Secured("admin-apache", peer, folder)
    try:
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            change = ["--alter", "--entity-type", "users", "--entity-name", USER, "--add-config", f"{mechanism}=[iterations=8192,password={PASSWORD}]"]
            subprocess.run([str(peer / "tool"), "configs", "--bootstrap-server", apache.bootstrap, *change], check=True, capture_output=True)
        for number, (name, listener, properties, expected) in enumerate(WAYS):
            at, properties = apache.at(listener), [text.format(folder=folder) for text in properties]
            report.test(f"admin: {name} of Apache Kafka", lambda: tour(command, at, properties, expected))
            # The place of the properties goes by turns.
            place = PLACES[number % len(PLACES)]
            report.test(f"command line: {name} of Apache Kafka, {place.__doc__}", lambda: command_line(binary, at, place(folder, properties), expected))
    finally:
        apache.close()
        shutil.rmtree(folder, ignore_errors=True)


def tour(command, bootstrap, properties=(), expected=None):
    """`expected`: what the program has to say when it is not let in."""
    arguments = [*properties, "default.api.timeout.ms=20000"]
    done = subprocess.run([command, bootstrap, *arguments], capture_output=True, text=True, check=False)
    if expected is None:
        check(done.returncode == 0, (done.stdout + done.stderr)[-4000:])
        return done.stdout.strip().splitlines()[-1]
    check(done.returncode == 1 and expected in done.stdout, f"not refused with {expected!r}: {(done.stdout + done.stderr)[-4000:]}")
    return None


def by_hand(_folder, properties):
    """by -X"""
    return [argument for text in properties for argument in ("-X", text)], {}


def by_file(folder, properties):
    """by --command-config"""
    file = folder / "client.properties"
    file.write_text("\n".join(properties))
    return ["--command-config", file], {}


def by_profile(folder, properties):
    """by a profile"""
    (folder / "kavka").mkdir(exist_ok=True)
    pairs = [text.split("=", 1) for text in properties]
    # What JSON quotes, TOML reads.
    lines = ["[profiles.secured]", *(f"{name} = {json.dumps(value)}" for name, value in pairs)]
    (folder / "kavka" / "config.toml").write_text("\n".join(lines))
    return ["--profile", "secured"], {"XDG_CONFIG_HOME": str(folder)}


PLACES = [by_hand, by_file, by_profile]


def command_line(binary, bootstrap, place, expected):
    """A topic, records in and out; or, when it is not let in, why."""
    options, variables = place
    topic = unique("t-secured")

    def kavka(*arguments, stdin=""):
        command = [binary, "-b", bootstrap, "--timeout", "20s", *map(str, options), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env={**os.environ, **variables}, check=False)
        if expected is None:
            check(done.returncode == 0, f"kavka {arguments} ended with {done.returncode}\n{done.stderr[-2000:]}")
        return done

    if expected is not None:
        done = kavka("topic", "list")
        check(done.returncode == 1 and expected in done.stderr, f"not refused with {expected!r}: {done.returncode} {done.stderr[-2000:]}")
        return
    kavka("topic", "create", topic, "-p", "1")
    kavka("produce", topic, "-q", stdin="a\nb\n")
    equal(kavka("consume", topic, "--from", "earliest", "--until", "end", "-q").stdout, "a\nb\n", "values")
    kavka("topic", "delete", topic, "-q")


def certificates():
    """A folder with an issuer, the broker's and a client's certificate, as people make them with openssl."""
    if shutil.which("openssl") is None:
        raise Missing("openssl is not installed")
    folder = DATA / "admin-certificates"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=compat")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name, extra in (("server", ["-extfile", "names"]), ("client", [])):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.crt", "-days", "2", *extra)
        (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    return folder


class Secured(ApacheKafka):
    """An Apache Kafka with a listener for each security protocol, every mechanism, and an authorizer."""

    def __init__(self, name, peer, folder):
        self.ports = {protocol: free_port() for protocol in ("SSL", "SASL_PLAINTEXT", "SASL_SSL")}
        settings = {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": f"{folder}/server.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": f"{folder}/ca.pem",
            "ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{USER};User:CN=client",
            # Sessions end while the tours go on.
            "listener.name.sasl_plaintext.connections.max.reauth.ms": "2000",
        }
        for listener in ("sasl_plaintext", "sasl_ssl"):
            prefix = f"listener.name.{listener}"
            settings[f"{prefix}.plain.sasl.jaas.config"] = f'{PLAIN} user_{USER}="{PASSWORD}";'
            settings[f"{prefix}.scram-sha-256.sasl.jaas.config"] = f"{SCRAM};"
            settings[f"{prefix}.scram-sha-512.sasl.jaas.config"] = f"{SCRAM};"
            settings[f"{prefix}.oauthbearer.sasl.jaas.config"] = BEARER
        super().__init__(name, peer, settings)

    def at(self, protocol):
        return f"127.0.0.1:{self.ports.get(protocol, self.port)}"

    def start(self):
        addresses = [f"{protocol}://{self.at(protocol)}" for protocol in ("PLAINTEXT", *self.ports)]
        self.settings["listeners"] = ",".join([*addresses, f"CONTROLLER://127.0.0.1:{self.port + 1}"])
        self.settings["advertised.listeners"] = ",".join(addresses)
        protocols = ["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in ("PLAINTEXT", *self.ports))]
        self.settings["listener.security.protocol.map"] = ",".join(protocols)
        return super().start()


TRUST = "ssl.truststore.location={folder}/ca.pem"
OURS = "ssl.keystore.location={folder}/client.pem"
OVER_TLS = ["security.protocol=SASL_SSL", TRUST]
IN_THE_CLEAR = ["security.protocol=SASL_PLAINTEXT"]
KNOWN = [f"sasl.username={USER}", f"sasl.password={PASSWORD}"]
REFUSED = "SASL_AUTHENTICATION_FAILED"

# Name, listener, properties, and what it says when it is refused.
WAYS = [
    ("TLS 1.3", "SSL", ["security.protocol=SSL", TRUST, OURS, "ssl.enabled.protocols=TLSv1.3"], None),
    (
        "TLS 1.2, by librdkafka's names",
        "SSL",
        ["security.protocol=SSL", "ssl.ca.location={folder}/ca.pem", "ssl.certificate.location={folder}/client.crt", "ssl.key.location={folder}/client.key", "ssl.enabled.protocols=TLSv1.2"],
        None,
    ),
    ("TLS without a certificate of ours", "SSL", ["security.protocol=SSL", TRUST], "wants a certificate of ours"),
    ("TLS with an issuer nobody knows", "SSL", ["security.protocol=SSL"], "UnknownIssuer"),
    ("PLAIN, by Java's login module", "SASL_PLAINTEXT", [*IN_THE_CLEAR, "sasl.mechanism=PLAIN", f'sasl.jaas.config={PLAIN} username="{USER}" password="{PASSWORD}";'], None),
    ("PLAIN with a wrong password", "SASL_PLAINTEXT", [*IN_THE_CLEAR, "sasl.mechanism=PLAIN", KNOWN[0], "sasl.password=wrong"], REFUSED),
    ("SCRAM-SHA-256", "SASL_PLAINTEXT", [*IN_THE_CLEAR, "sasl.mechanism=SCRAM-SHA-256", *KNOWN], None),
    ("SCRAM-SHA-256 over TLS", "SASL_SSL", [*OVER_TLS, "sasl.mechanism=SCRAM-SHA-256", *KNOWN], None),
    ("SCRAM-SHA-512 over TLS", "SASL_SSL", [*OVER_TLS, "sasl.mechanism=SCRAM-SHA-512", *KNOWN], None),
    ("SCRAM-SHA-512 with a wrong password", "SASL_PLAINTEXT", [*IN_THE_CLEAR, "sasl.mechanism=SCRAM-SHA-512", KNOWN[0], "sasl.password=wrong"], REFUSED),
    ("OAUTHBEARER, by Java's login module", "SASL_PLAINTEXT", [*IN_THE_CLEAR, "sasl.mechanism=OAUTHBEARER", f"sasl.jaas.config={BEARER}"], None),
    (
        "OAUTHBEARER over TLS, by librdkafka's names",
        "SASL_SSL",
        [*OVER_TLS, "sasl.mechanisms=OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt=true", f"sasl.oauthbearer.config=principal={USER}"],
        None,
    ),
    ("SASL where there is none", "PLAINTEXT", [*IN_THE_CLEAR, "sasl.mechanism=PLAIN", *KNOWN], "asks for no SASL"),
]
