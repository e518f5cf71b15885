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
BEGUN = "[==========] Running 3 tests from 1 test suite.\n[ RUN      ] S/B.a/1\n"
ENDED = BEGUN + "[       OK ] S/B.a/1 (0 ms)\n[ RUN      ] S/B.a/10\nlast words\n"
SUITE = (ENDED + "a.cpp:3: Failure\nExpected: x\n\n"
         "[  FAILED  ] S/B.a/10, where GetParam() = 10 (0 ms)\n"
         "[ RUN      ] S/B.b\na.cpp:3: Skipped\nno AVX2\n\n[  SKIPPED ] S/B.b (0 ms)\n"
         "[==========] 3 tests from 1 test suite ran. (0 ms total)\n[  PASSED  ] 1 test.\n"
         "[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] S/B.b\n[  FAILED  ] S/B.a/10\n")
PYTHON = ('<testcase name="e2e.x" status="run"><system-out>[ PASSED ] X.test_a\n'
          "[ SKIPPED ] X.test_b: no memory\n</system-out></testcase>")
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

    def suite(self, output, how=None):
        failure = f'<failure message="{how}"/>' if how else ""
        status = "fail" if how else "run"
        return self.summarise(["S/B.b"], f'<testcase name="p.S/B" status="{status}">{failure}'
                                         f"<system-out>{output}</system-out></testcase>")

    def test_cases_of_a_suite_count_one_by_one(self):
        good, lines = self.suite(SUITE, "Failed")
        self.assertFalse(good)
        self.assertIn("failed: S/B.a/10 (", lines[0])
        self.assertIn("a.cpp:3: Failure Expected: x", lines[0])
        self.assertRegex(lines[1], r"skipped: S/B.b .*: no AVX2")
        self.assertEqual(lines[2], "1 passed, 1 failed, 1 skipped")

    def test_a_case_that_ends_its_suite_fails_and_so_do_those_after_it(self):
        good, lines = self.suite(ENDED, "SEGFAULT")
        self.assertFalse(good)
        self.assertRegex(lines[0], r"failed: S/B.a/10 .*SEGFAULT last words")
        self.assertRegex(lines[1], r"failed: p.S/B .*1 cases did not run")
        self.assertEqual(lines[-1], "1 passed, 2 failed, 0 skipped")

    def test_a_suite_that_stops_early_and_well_fails(self):
        self.assertFalse(self.suite(ENDED)[0])
        self.assertFalse(self.suite(BEGUN + "[       OK ] S/B.a/1 (0 ms)\n")[0])

    def test_a_suite_without_cases_fails(self):
        self.assertFalse(self.suite("[==========] Running 0 tests from 0 test suites.\n")[0])

    def test_a_program_that_ends_badly_after_its_cases_fails_with_its_last_words(self):
        done = BEGUN.replace("3 tests", "1 test") + "[       OK ] S/B.a/1 (0 ms)\nSUMMARY: a leak\n"
        good, lines = self.suite(done, "Failed")
        self.assertFalse(good)
        self.assertRegex(lines[0], r"failed: p.S/B .*SUMMARY: a leak")

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
