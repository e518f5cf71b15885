"""The benchmarks run and report what they promise; how fast is no matter here."""

import json
import os
import pathlib
import subprocess
import unittest

PROGRAM = pathlib.Path(os.environ["POLYKV_BINARY_DIR"]) / "polykv_bench"
COMPARED = ("ms", "GB/s", "read_GB/s", "of_read", "GMAC/s")


class Bench(unittest.TestCase):

    def rows(self, *arguments):
        done = subprocess.run([PROGRAM, *arguments], text=True, capture_output=True, timeout=300,
                              check=True)
        return done.stdout

    def test_each_family_has_its_benchmarks(self):
        names = self.rows("--benchmark_list_tests").split()
        families = {name.split("/")[0] for name in names}
        for family in ("quantise", "activation", "rotations", "sample"):
            self.assertIn(family, families)

    def test_kernels_are_held_against_plain_reading(self):
        names = self.rows("--benchmark_list_tests").split()
        smallest = [name for name in names if name.startswith(
            ("attend/k4v4/avx2/queries:3/tokens:4096/dim:64", "matmul/w4/avx2/rows:1/"))]
        if not smallest:
            self.skipTest("this processor has no vector kernels to measure")
        self.assertEqual(len(smallest), 2, names)
        report = json.loads(self.rows(f"--benchmark_filter=^({'|'.join(smallest)})$",
                                      "--benchmark_min_time=0.001", "--benchmark_format=json"))
        self.assertEqual([row["name"] for row in report["benchmarks"]], smallest)
        for row in report["benchmarks"]:
            for counter in COMPARED:
                self.assertGreater(row[counter], 0, row["name"])


if __name__ == "__main__":
    unittest.main()
