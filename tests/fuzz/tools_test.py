#!/usr/bin/env python3
"""Are the tools here that build the fuzz targets and count their lines? Without them ./tests/run
leaves that stage out, and this skip says so. With --quiet: exit status 0 if they are.
"""

import shutil
import sys
import unittest

TOOLS = ("clang++-19", "llvm-profdata-19", "llvm-cov-19")


def missing():
    return [tool for tool in TOOLS if shutil.which(tool) is None]


class FuzzTools(unittest.TestCase):
    def test_they_are_here(self):
        if missing():
            self.skipTest(f"no {', '.join(missing())}: the fuzz targets are not built "
                          "(./launch/setup --tests installs them)")


if __name__ == "__main__":
    sys.exit(1 if missing() else 0)
