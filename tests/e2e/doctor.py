"""`polykv doctor` on this machine, and on one that lacks something."""

import json
import os
import resource
import subprocess

import harness


class Doctor(harness.Case):

    def doctor(self, *arguments, limits=None):
        """Exit code and {name: check} of `polykv doctor --json`."""
        def lower():
            for limit, value in (limits or {}).items():
                resource.setrlimit(limit, (value, value))
        done = subprocess.run(
            [harness.PROGRAMS / "polykv", "doctor", "--json", "--runtime", self.runtime,
             *arguments],
            capture_output=True, timeout=harness.DEADLINE_S, check=False, preexec_fn=lower)
        report = json.loads(done.stdout)
        self.assertEqual(report["usable"], done.returncode == 0, done.stderr)
        return done.returncode, {check["name"]: check for check in report["checks"]}

    def test_here_it_finds_kernels_writer_and_model(self):
        code, checks = self.doctor("--model", harness.MODEL)
        self.assertEqual(code, 0, checks)
        for name in ("matrix kernels", "attention kernels", "writer", "model", "sealed memory"):
            self.assertEqual(checks[name]["verdict"], "ok", checks[name])

    def test_too_few_open_files_are_a_problem(self):
        code, checks = self.doctor(limits={resource.RLIMIT_NOFILE: 64})
        self.assertEqual(code, 18)
        self.assertEqual(checks["open files"]["verdict"], "problem")
        self.assertIn("64", checks["open files"]["found"])

    def test_a_missing_writer_is_named(self):
        code, checks = self.doctor("--writer", str(self.dir / "nowhere"))
        self.assertEqual(code, 18)
        self.assertIn("nowhere", checks["writer"]["found"])

    def test_a_small_file_size_limit_is_a_problem_of_memory(self):
        code, checks = self.doctor(limits={resource.RLIMIT_FSIZE: 1_000_000})
        self.assertEqual(code, harness.MEMORY)
        self.assertEqual(checks["file size limit"]["code"], "memory_limit")

    def test_a_running_runtime_is_greeted_and_a_killed_ones_sockets_are_seen(self):
        process = self.up()
        _, checks = self.doctor()
        self.assertIn(f"pid {process.pid}", checks["runtime"]["found"])
        process.kill()
        process.wait()
        _, checks = self.doctor()
        self.assertEqual(checks["runtime"]["verdict"], "warning")
        self.assertIn("died", checks["runtime"]["found"])
        harness.await_true("children gone", lambda: not harness.processes_of(self.runtime))

    def test_a_text_for_people_says_what_to_do(self):
        os.makedirs(self.runtime, mode=0o755)
        out, err = self.polykv("doctor", "--runtime", self.runtime, code=18)
        self.assertIn("chmod 700", out)
        self.assertIn("0700", err)
