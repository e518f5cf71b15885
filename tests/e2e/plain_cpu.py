"""A processor without AVX2, shown by qemu's user mode: everything starts, on the reference."""

import json
import shutil
import subprocess
import unittest

import harness

QEMU = shutil.which("qemu-x86_64")
CPU = "Nehalem"  # SSE4.2 and no AVX: what Debian's x86-64 may run on, and a little more


@unittest.skipUnless(QEMU, "qemu-x86_64 is not there (Debian package qemu-user)")
class PlainCpu(unittest.TestCase):

    def run_there(self, program, *arguments):
        done = subprocess.run(
            [QEMU, "-cpu", CPU, harness.PROGRAMS / program, *arguments], text=True,
            capture_output=True, timeout=harness.DEADLINE_S, check=False)
        # An instruction that the processor lacks ends a program by SIGILL.
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_every_program_starts(self):
        for program in ("polykv", "polykv-agent", "polykv-writer"):
            with self.subTest(program):
                self.assertRegex(self.run_there(program, "--version"), r"^\d+\.\d+\.\d+")

    def test_the_doctor_finds_the_reference_and_says_that_it_is_slow(self):
        report = json.loads(self.run_there("polykv-agent", "--doctor"))
        self.assertTrue(report["usable"])
        self.assertEqual([check["name"] for check in report["checks"]],
                         ["matrix kernels", "attention kernels"])
        for check in report["checks"]:
            self.assertEqual(check["verdict"], "warning")
            self.assertIn("ref is used", check["found"])
            self.assertIn("slowly", check["advice"])

    def test_kernels_keep_their_promises(self):
        """The reference computes, and what the processor lacks is refused by name."""
        for program, tests in (
                ("reader_attend_test",
                 "Kernels/Attend.*/kernel0_k4v4:AttendKernels.*-*SetsWithAvx512*"),
                ("model_test", "ChooseKernels.*:Quantise.*:Swiglu.*:Matmul.A*")):
            with self.subTest(program):
                out = self.run_there(program, f"--gtest_filter={tests}")
                self.assertIn("PASSED", out)
                self.assertNotIn("SKIPPED", out)


if __name__ == "__main__":
    unittest.main()
