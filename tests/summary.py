#!/usr/bin/env python3
"""Adds up CTest's JUnit files: prints failures and skips with their reasons, then one closing line.

    python3 tests/summary.py SKIPS_FILE JUNIT_FILE ...

Exit status 1 if a test failed, if a skip is not in SKIPS_FILE, or if nothing ran. A GoogleTest case
counts as one test; so does each case of a file that tests/unittest_main.py ran.
"""

import fnmatch
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

_PYTHON_CASE = re.compile(r"^\[ (PASSED|FAILED|SKIPPED) \] ([\w.]+)(?:: (.*))?$", re.M)
_GTEST_CASE = re.compile(r"^\[ RUN      \] (\S+)\n(.*?)(?=^\[ RUN      \]|^\[-{10}\]|\Z)",
                         re.M | re.S)
_GTEST_FAILURE = re.compile(
    r"^\S+:\d+: Failure\n.*?(?=^\S+:\d+: Failure$|^\[  FAILED|\Z)", re.M | re.S)
_KEPT = 600  # characters of what a failed test said
_GTEST_REASON = re.compile(r"Skipped\n(.*?)\n\s*\[  SKIPPED \]", re.S)


class Outcome:
    """What became of one test."""

    def __init__(self, name, word, reason=""):
        self.name, self.word, self.reason = name, word, " ".join(reason.split())


def allowed_skips(path):
    """[name pattern] of the committed list: `pattern  # why`."""
    lines = (line.split("#")[0].strip() for line in pathlib.Path(path).read_text().splitlines())
    return [line for line in lines if line]


def _why_failed(output):
    """The first failed expectation of a GoogleTest case, or the last words of one that died."""
    found = _GTEST_FAILURE.search(output)
    return found.group(0)[:_KEPT] if found else output[-_KEPT:]


def _of_gtest(name, output):
    """Of one GoogleTest case by its output."""
    if "[       OK ]" in output:
        return Outcome(name, "passed")
    if "[  SKIPPED ]" in output:
        found = _GTEST_REASON.search(output)
        return Outcome(name, "skipped", found.group(1) if found else "")
    return Outcome(name, "failed", _why_failed(output))


def _inner(name, output):
    """Of a Python file's cases, or a GoogleTest suite's that went as one (a name without a dot)."""
    if "." not in name and _GTEST_CASE.search(output):
        return [_of_gtest(*case) for case in _GTEST_CASE.findall(output)]
    return [Outcome(f"{name}.{test}", word.lower(), reason or "")
            for word, test, reason in _PYTHON_CASE.findall(output)]


def _of_case(case):
    """The outcomes of one CTest test."""
    name, status = case.get("name"), case.get("status")
    output = case.findtext("system-out") or ""
    failure = case.find("failure")
    inner = _inner(name, output)
    if inner:
        if failure is not None and all(one.word != "failed" for one in inner):
            inner.append(Outcome(name, "failed", failure.get("message") or "ended badly"))
        return inner
    skipped = case.find("skipped")
    if failure is not None or (status != "run" and skipped is None):
        reason = status if failure is None else failure.get("message") or ""
        return [Outcome(name, "failed", f"{reason} {_why_failed(output)}")]
    if skipped is not None:
        found = _GTEST_REASON.search(output)
        return [Outcome(name, "skipped", found.group(1) if found else skipped.get("message") or "")]
    return [Outcome(name, "passed")]


def outcomes(path):
    """All outcomes in one JUnit file."""
    root = ElementTree.parse(path).getroot()
    return [one for case in root.iter("testcase") for one in _of_case(case)]


def summarise(skips, files, say=print):
    """Prints the summary; True if all is well."""
    everything = []
    for file in files:
        label = pathlib.Path(file).parent.name
        everything += [(label, one) for one in outcomes(file)]
    count = {"passed": 0, "failed": 0, "skipped": 0}
    stray = []
    for label, one in everything:
        count[one.word] += 1
        if one.word == "failed":
            say(f"failed: {one.name} ({label}) {one.reason}")
        if one.word == "skipped":
            say(f"skipped: {one.name} ({label}): {one.reason or 'no reason given'}")
            if not any(fnmatch.fnmatchcase(one.name, pattern) for pattern in skips):
                stray.append(one.name)
    for name in stray:
        say(f"not allowed to be skipped (tests/skips.txt): {name}")
    say(f"{count['passed']} passed, {count['failed'] + len(stray)} failed, "
        f"{count['skipped'] - len(stray)} skipped")
    return count["failed"] == 0 and not stray and count["passed"] > 0


def main(arguments):
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    return 0 if summarise(allowed_skips(arguments[0]), arguments[1:]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
