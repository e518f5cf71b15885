#!/usr/bin/env python3
"""Runs one file of unittest cases and prints a line per test that tests/summary.py can count.

    python3 tests/unittest_main.py FILE [Class.test ...]
"""

import importlib.util
import pathlib
import sys
import unittest


class LineResult(unittest.TextTestResult):
    """One line per test: '[ PASSED ] Class.test', '[ FAILED ] …', '[ SKIPPED ] …: reason'."""

    def _say(self, word, test, reason=""):
        name = ".".join(test.id().split(".")[-2:])
        print(f"[ {word} ] {name}" + (f": {reason}" if reason else ""), flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._say("PASSED", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._say("FAILED", test)

    def addError(self, test, err):
        super().addError(test, err)
        self._say("FAILED", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._say("FAILED", test, str(subtest).replace("\n", " "))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say("SKIPPED", test, reason)


def load(path):
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main(arguments):
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    module = load(pathlib.Path(arguments[0]).resolve())
    loader = unittest.TestLoader()
    if arguments[1:]:
        suite = loader.loadTestsFromNames(arguments[1:], module)
    else:
        suite = loader.loadTestsFromModule(module)
    if suite.countTestCases() == 0:
        print(f"[ FAILED ] {module.__name__}: the file holds no test")
        return 1
    result = unittest.TextTestRunner(resultclass=LineResult, verbosity=0).run(suite)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
