"""Bad input: a sentence that helps, an exit code of its own, and nothing lost."""

import os
import pathlib
import resource
import socket
import struct
import subprocess
import unittest

import harness


class Refused(harness.Case):

    def setUp(self):
        super().setUp()
        self.questions = self.file("questions.txt", "What is this?\n")
        self.context = self.gpl(n_bytes=1000)

    def run_with(self, code, *says, model=harness.MODEL, context=None, questions=None,
                 arguments=()):
        _, err = self.polykv("run", "--model", model, "--context", context or self.context,
                             "--questions", questions or self.questions, "--max-tokens", "4",
                             "--runtime", self.runtime, *(arguments or ["--agents", "1"]),
                             code=code)
        for words in says:
            self.assertIn(str(words), err)
        self.assert_nothing_left()

    def test_model_truncated(self):
        content = pathlib.Path(harness.MODEL).read_bytes()
        for n_bytes in (0, 3, 100, 5_000_000, len(content) - 1):
            with self.subTest(n_bytes=n_bytes):
                self.run_with(harness.BAD_MODEL, model=self.file("cut.gguf", content[:n_bytes]))

    def test_model_corrupted_and_of_absurd_size(self):
        content = bytearray(pathlib.Path(harness.MODEL).read_bytes()[:200_000])
        content[0:4] = b"GGML"
        self.run_with(harness.BAD_MODEL, "magic", model=self.file("magic.gguf", bytes(content)))
        content[0:4] = b"GGUF"
        content[8:16] = struct.pack("<Q", 2**60)  # tensors
        self.run_with(harness.BAD_MODEL, 2**60, model=self.file("many.gguf", bytes(content)))

    def test_model_of_another_architecture(self):
        content = pathlib.Path(harness.MODEL).read_bytes()
        renamed = content.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba", 1)
        self.assertNotEqual(content, renamed)
        self.run_with(harness.UNSUPPORTED, "mamba", model=self.file("mamba.gguf", renamed))

    def test_model_by_a_relative_path_is_found(self):
        os.symlink(harness.MODEL, self.dir / "m.gguf")
        relative = os.path.relpath(self.dir / "m.gguf")
        self.run_with(0, model=relative)

    def test_model_missing(self):
        self.run_with(harness.BAD_MODEL, "nowhere.gguf", model=str(self.dir / "nowhere.gguf"))

    def test_text_that_is_not_utf8(self):
        self.run_with(harness.BAD_TEXT, "not UTF-8", "byte 6",
                      context=self.file("latin1.txt", b"hello \xe9 world"))
        self.run_with(harness.BAD_TEXT, "not UTF-8",
                      questions=self.file("q.txt", b"what is \xff?\n"))

    def test_context_empty_or_missing(self):
        self.run_with(harness.BAD_TEXT, "empty", context=self.file("empty.txt", ""))
        self.run_with(harness.BAD_TEXT, "no-such-file", context=str(self.dir / "no-such-file"))
        self.run_with(harness.BAD_TEXT, questions=self.file("none.txt", "\n\n"))

    def test_context_too_long_says_the_numbers_and_what_would_fit(self):
        self.run_with(harness.TOO_LONG, "context (", "prompt and answer (", "8192", "would fit",
                      context=self.file("long.txt", (harness.LICENSES / "GPL-3").read_text() * 2))

    def test_kernels_that_are_not_here_are_refused_before_the_model_is_opened(self):
        self.run_with(harness.USAGE, "bogus", "ref", "leave it out", model="/nowhere.gguf",
                      arguments=["--isa", "bogus"])
        for program, arguments in (("polykv-agent", ["--agent", "a", "--pool", "main"]),
                                   ("polykv-writer", [])):
            done = subprocess.run(
                [harness.PROGRAMS / program, "--runtime", self.runtime, *arguments],
                env={**os.environ, "POLYKV_ISA": "bogus"}, capture_output=True, text=True,
                timeout=harness.DEADLINE_S, check=False)
            self.assertEqual(done.returncode, harness.USAGE, done.stderr)
            for words in ("bogus", "ref", "POLYKV_ISA"):
                self.assertIn(words, done.stderr)

    def test_unknown_codec(self):
        self.run_with(harness.UNKNOWN_CODEC, "k9v1", arguments=["--codec", "k9v1"])

    def test_agent_counts_beyond_reason(self):
        self.run_with(harness.BAD_AGENTS, "0 agents", arguments=["--agents", "0"])
        self.run_with(harness.BAD_AGENTS, "10000", "256", arguments=["--agents", "10000"])

    def test_socket_path_too_long(self):
        self.runtime = self.dir / ("x" * 120)
        self.run_with(harness.PATH_TOO_LONG, "107")

    def test_unknown_option_and_sampling_out_of_range(self):
        self.run_with(harness.USAGE, arguments=["--no-such-option"])
        self.up("--context", self.context, "--agents", 1)
        error = self.ask("Why?", "--top-p", "1.5", "--max-tokens", "4", code=14)
        self.assertIn("top_p", error)

    def test_budget(self):
        self.run_with(harness.MEMORY, "budget", arguments=["--budget", "99MB"])

    def test_file_size_limit(self):
        limit = 50_000_000
        done = subprocess.run(
            [harness.PROGRAMS / "polykv", "run", "--model", harness.MODEL, "--context",
             self.context, "--questions", self.questions, "--agents", "1", "--runtime",
             self.runtime],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            capture_output=True, timeout=harness.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, harness.MEMORY, done.stderr)
        self.assertIn(b"RLIMIT_FSIZE", done.stderr)
        self.assert_nothing_left()


class Running(harness.Case):

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=1000), "--agents", 1)

    def test_a_second_up_in_the_same_runtime(self):
        pid = self.status()["pid"]
        _, err = self.polykv("up", "--model", harness.MODEL, "--runtime", self.runtime,
                             code=harness.BUSY)
        self.assertIn(f"pid {pid}", err)
        self.assertEqual(len(self.status()["agents"]), 1)

    def test_prompt_beyond_the_positions_says_the_three_numbers(self):
        error = self.ask("Why?", "--max-tokens", "9000", code=harness.TOO_LONG)
        for words in ("context (", "prompt (", "max tokens (9000)", "8192 positions"):
            self.assertIn(words, error)

    def test_an_agent_of_another_model(self):
        done = subprocess.run(
            [harness.PROGRAMS / "polykv-agent", "--runtime", self.runtime, "--agent", "stranger",
             "--pool", "main", "--fingerprint", "0" * 32],
            capture_output=True, timeout=harness.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, harness.FINGERPRINT, done.stderr)
        self.assertIn(b"0" * 32, done.stderr)
        self.assertIn(self.status()["models"][0]["fingerprint"].encode(), done.stderr)

    def test_a_pool_or_version_that_is_not_there(self):
        self.assertIn("main", self.ask("Why?", "--pool", "other", code=20))
        self.assertIn("1 is current", self.ask("Why?", "--pool-version", "7", code=20))

    def test_malformed_packets_harm_nobody(self):
        for payload in (b"", b"{", b"[1]", b'{"v":1}', b'{"v":1,"type":"attach"}',
                        b'{"v":9,"type":"attach"}', b"\xff" * 1000, b"[" * 5000):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                stranger.settimeout(harness.DEADLINE_S)
                stranger.connect(str(self.runtime / "fd"))
                stranger.send(payload or b" ")
                answer = stranger.recv(65536)
                code = b"protocol_version" if b'"v":9' in payload else b"bad_message"
                self.assertIn(code, answer)
        self.assertEqual(self.ask("What is this?", "--max-tokens", "4")["tokens"], 4)

    def test_not_running(self):
        _, err = self.polykv("ask", "--runtime", self.dir / "nothing", "Why?",
                             code=harness.NOT_RUNNING)
        self.assertIn("nothing", err)


if __name__ == "__main__":
    unittest.main()
