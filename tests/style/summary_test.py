"""The closing line of ./tests/run counts right; an unlisted skip or a silent death is a failure."""

import os
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
sys.path.insert(0, str(ROOT / "tests"))
import summary  # noqa: E402  (the path comes first)

PASSED = '<testcase name="A.b" status="run"><system-out>[  PASSED  ]</system-out></testcase>'
FAILED = '<testcase name="A.c" status="fail"><failure message=""/><system-out/></testcase>'
SAID = ('<testcase name="A.e" status="fail"><failure message="Failed"/><system-out>'
        "[ RUN      ] A.e\nnoise\na.cpp:3: Failure\nExpected: (2) &lt;= (1)\n\n"
        "a.cpp:4: Failure\nValue of: more\n[  FAILED  ] A.e (0 ms)</system-out></testcase>")
KILLED = ('<testcase name="A.f" status="fail"><failure message="SEGFAULT"/>'
          "<system-out>[ RUN      ] A.f\nlast words\n</system-out></testcase>")
SKIPPED = ('<testcase name="A.d" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION"/>'
           "<system-out>[ RUN      ] A.d\na.cpp:3: Skipped\nno AVX2\n\n[  SKIPPED ] A.d (0 ms)"
           "</system-out></testcase>")
PYTHON = ('<testcase name="e2e.x" status="run"><system-out>[ PASSED ] X.test_a\n'
          "[ SKIPPED ] X.test_b: no memory\n</system-out></testcase>")
TOGETHER = ('<testcase name="A" status="{}">{}<system-out>[----------] 3 tests from A\n'
            "[ RUN      ] A.b\n[       OK ] A.b (1 ms)\n"
            "[ RUN      ] A.d\na.cpp:3: Skipped\nno AVX2\n\n[  SKIPPED ] A.d (0 ms)\n"
            "[ RUN      ] A.c\n{}</system-out></testcase>")
GOOD_END = "halfway[       OK ] A.c (1 ms)\n[----------] 3 tests from A (2 ms total)\n"
BAD_END = ("a.cpp:9: Failure\nExpected: 1\n\n[  FAILED  ] A.c, where GetParam() = 1 (1 ms)\n"
           "[----------] 3 tests from A (2 ms total)\n[  FAILED  ] A.c, where GetParam() = 1\n")
DIED = ('<testcase name="e2e.y" status="fail"><failure message="Timeout"/>'
        "<system-out>[ PASSED ] Y.test_a\n</system-out></testcase>")


class Summary(unittest.TestCase):
    def summarise(self, skips, *cases):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "junit.xml"
            file.write_text(f"<testsuite>{''.join(cases)}</testsuite>")
            lines = []
            good = summary.summarise(skips, [file], lines.append)
            return good, lines

    def test_all_passed(self):
        good, lines = self.summarise([], PASSED, PASSED)
        self.assertTrue(good)
        self.assertEqual(lines, ["2 passed, 0 failed, 0 skipped"])

    def test_a_failure_fails(self):
        good, lines = self.summarise([], PASSED, FAILED)
        self.assertFalse(good)
        self.assertEqual(lines[-1], "1 passed, 1 failed, 0 skipped")

    def test_a_failure_says_what_it_expected(self):
        lines = self.summarise([], PASSED, SAID)[1]
        self.assertIn("a.cpp:3: Failure Expected: (2) <= (1)", lines[0])
        self.assertNotIn("noise", lines[0])
        self.assertNotIn("more", lines[0])

    def test_a_death_says_how_and_the_last_words(self):
        lines = self.summarise([], PASSED, KILLED)[1]
        self.assertIn("SEGFAULT", lines[0])
        self.assertIn("last words", lines[0])

    def test_each_case_of_a_suite_that_went_as_one_counts(self):
        good, lines = self.summarise(["A.d"], TOGETHER.format("run", "", GOOD_END))
        self.assertTrue(good)
        self.assertIn("no AVX2", lines[0])
        self.assertEqual(lines[1:], ["2 passed, 0 failed, 1 skipped"])

    def test_a_failure_in_a_suite_that_went_as_one_is_that_cases(self):
        failed = '<failure message="Failed"/>'
        good, lines = self.summarise(["A.d"], TOGETHER.format("fail", failed, BAD_END))
        self.assertFalse(good)
        self.assertIn("failed: A.c ", lines[1])
        self.assertIn("a.cpp:9: Failure Expected: 1", lines[1])
        self.assertEqual(lines[-1], "1 passed, 1 failed, 1 skipped")

    def test_a_death_in_a_suite_that_went_as_one_is_that_cases(self):
        died = '<failure message="SEGFAULT"/>'
        good, lines = self.summarise(["A.d"], TOGETHER.format("fail", died, "last words\n"))
        self.assertFalse(good)
        self.assertIn("failed: A.c ", lines[1])
        self.assertIn("last words", lines[1])

    def test_a_suite_that_fails_after_its_last_case_fails(self):
        leak = '<failure message="Failed"/>'
        good, lines = self.summarise(["A.d"], TOGETHER.format("fail", leak, GOOD_END))
        self.assertFalse(good)
        self.assertEqual(lines[-1], "2 passed, 1 failed, 1 skipped")

    def test_nothing_ran_fails(self):
        self.assertFalse(self.summarise([])[0])

    def test_a_listed_skip_passes_with_its_reason(self):
        good, lines = self.summarise(["A.*"], PASSED, SKIPPED)
        self.assertTrue(good)
        self.assertIn("no AVX2", lines[0])
        self.assertEqual(lines[-1], "1 passed, 0 failed, 1 skipped")

    def test_an_unlisted_skip_fails(self):
        good, lines = self.summarise(["B.*"], PASSED, SKIPPED)
        self.assertFalse(good)
        self.assertEqual(lines[-1], "1 passed, 1 failed, 0 skipped")

    def test_python_cases_count_one_by_one(self):
        good, lines = self.summarise(["e2e.x.X.test_b"], PYTHON)
        self.assertTrue(good)
        self.assertIn("no memory", lines[0])
        self.assertEqual(lines[-1], "1 passed, 0 failed, 1 skipped")

    def test_a_file_that_died_after_passing_cases_fails(self):
        good, lines = self.summarise([], DIED)
        self.assertFalse(good)
        self.assertEqual(lines[-1], "1 passed, 1 failed, 0 skipped")


if __name__ == "__main__":
    unittest.main()
