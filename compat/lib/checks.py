"""Assertions that print what differs, skips, waiting with a limit, and the report that counts them."""

import difflib
import signal
import sys
import time
import traceback


class Skip(Exception):
    """The reason goes to the report; a skip is never counted as a pass."""


class TooLong(Exception):
    pass


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def equal(actual, expected, what):
    if actual == expected:
        return
    left, right = _lines(expected), _lines(actual)
    diff = list(difflib.unified_diff(left, right, "expected", "actual", lineterm="", n=1))
    shown = "\n".join(diff[:40]) + (f"\n... {len(diff) - 40} more lines" if len(diff) > 40 else "")
    raise AssertionError(f"{what} differs\n{shown}")


def _lines(value):
    if isinstance(value, dict):
        return [f"{k!r}: {v!r}" for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [repr(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(v) for v in value)
    return [repr(value)]


def some(values, limit=10):
    """A few of many, for messages."""
    values = sorted(values)
    return f"{len(values)}: {values[:limit]}" + (" ..." if len(values) > limit else "")


def wait_until(ready, timeout, what, pause=0.05):
    """Returns the first true answer of `ready`; `what` (text, or a call that gives it) names what did not happen."""
    deadline = time.monotonic() + timeout
    while True:
        answer = ready()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(pause)


class Report:
    def __init__(self):
        self.passed, self.failed, self.skipped = [], [], []

    def test(self, name, run, timeout=90):
        """Runs one test under a time limit; True when it passed or was skipped."""
        begun = time.monotonic()

        def on_alarm(_signal, _frame):
            raise TooLong(f"took more than {timeout} s")

        signal.signal(signal.SIGALRM, on_alarm)
        signal.alarm(timeout)
        try:
            note = run()
        except Skip as reason:
            self.skip(name, str(reason))
            return True
        except Exception as error:  # noqa: BLE001  every failure is a result
            signal.alarm(0)
            self.failed.append(name)
            print(f"FAIL {name} ({time.monotonic() - begun:.1f} s)", flush=True)
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            print(_indent(f"{kind}{error}"), flush=True)
            if not isinstance(error, AssertionError):
                print(_indent("".join(traceback.format_tb(error.__traceback__)[-3:])), file=sys.stderr, flush=True)
            return False
        finally:
            signal.alarm(0)
        self.passed.append(name)
        print(f"ok   {name} ({time.monotonic() - begun:.1f} s)" + (f": {note}" if note else ""), flush=True)
        return True

    def skip(self, name, reason):
        self.skipped.append((name, reason))
        print(f"skip {name}: {reason}", flush=True)

    def close(self):
        """Prints the summary, answers the exit code."""
        if self.skipped:
            print("skipped:")
            for name, reason in self.skipped:
                print(f"  {name}: {reason}")
        if self.failed:
            print("failed:")
            for name in self.failed:
                print(f"  {name}")
        print(f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped", flush=True)
        return 1 if self.failed or not self.passed else 0


def _indent(text):
    return "\n".join("     " + line for line in text.rstrip().splitlines())
