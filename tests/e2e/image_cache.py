"""--image-cache: a second start takes the packed model out of it, if that is as it was."""

import subprocess
import unittest

import harness


class ImageCache(harness.Case):

    def start_and_ask(self):
        """One life of a runtime: (where its image came from, an answer, what it logged)."""
        before = self.kept()
        process = self.start("up", "--model", harness.MODEL, "--runtime", self.runtime,
                             "--image-cache", self.dir / "cache", "--context",
                             self.gpl(n_bytes=600), "--agents", 1)
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        answer = self.ask("What is this?", "--max-tokens", "8")["text"]
        source = self.status()["models"][0]["image_source"]
        shown = self.polykv("status", "--runtime", self.runtime)[0]
        self.assertEqual("from cache" in shown, source == "cache", shown)
        if source == "packed":  # it is kept beside the work
            harness.await_true("the image is kept", lambda: self.kept() not in ([], before))
        self.polykv("down", "--runtime", self.runtime)
        said += process.communicate(timeout=harness.DEADLINE_S)[0].splitlines(keepends=True)
        return source, answer, "".join(said)

    def kept(self):
        return [(path, path.stat().st_ino) for path in (self.dir / "cache").glob("*.image")]

    def test_second_start_uses_what_the_first_has_kept_and_answers_the_same(self):
        first = self.start_and_ask()
        second = self.start_and_ask()
        self.assertEqual((first[0], second[0]), ("packed", "cache"))
        self.assertEqual(first[1], second[1])
        self.assertIn("comes from the cache", second[2])

    def test_damaged_image_is_said_once_packed_again_and_replaced(self):
        self.start_and_ask()
        path = self.kept()[0][0]
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        source, _, said = self.start_and_ask()
        self.assertEqual(source, "packed")
        self.assertEqual(said.count(path.name + " is changed"), 1, said)
        self.assertEqual(self.start_and_ask()[0], "cache")

    def test_directory_that_others_may_write_is_not_used_and_everything_works_without(self):
        (self.dir / "cache").mkdir()
        (self.dir / "cache").chmod(0o777)
        process = self.up("--image-cache", self.dir / "cache")
        harness.await_true("the model is there",
                           lambda: self.status()["models"][0].get("image_source") == "packed")
        self.polykv("down", "--runtime", self.runtime)
        said = process.communicate(timeout=harness.DEADLINE_S)[0]
        self.assertEqual(said.count("be writable by nobody else"), 1, said)
        self.assertEqual(list((self.dir / "cache").iterdir()), [])

    def test_full_disk_is_said_once_and_everything_works_without(self):
        """A file system of its own, smaller than the image."""
        script = (f"mkdir {self.dir}/small && mount -t tmpfs -o size=1m,mode=700 none "
                  f"{self.dir}/small && exec {harness.PROGRAMS}/polykv run --model {harness.MODEL} "
                  f"--context {self.gpl(n_bytes=600)} --questions {self.file('q', 'Why?')} "
                  f"--agents 1 --max-tokens 4 --image-cache {self.dir}/small "
                  f"--runtime {self.runtime}")
        own = ["unshare", "--user", "--map-root-user", "--mount"]
        if subprocess.run([*own, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("this user may not make a mount namespace (unshare)")
        done = subprocess.run([*own, "sh", "-c", script], capture_output=True, check=False,
                              timeout=harness.DEADLINE_S, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("No space left on device"), 1, done.stderr)


if __name__ == "__main__":
    unittest.main()
