"""The client as its users get it: a wheel, installed into a fresh environment, with its types."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

import fake_runtime

SOURCE = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
PIP = ["-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
OFFLINE = ["--quiet", "--no-index", "--no-build-isolation"]


class Case(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pkv-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def run_program(self, *command, code=0, **more):
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("PYTHON", "PIP_", "MYPY"))}
        environment.update(more)
        done = subprocess.run([str(word) for word in command], cwd=self.dir, env=environment,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, f"{command}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def sources(self):
        """A copy: a build leaves its own files beside the sources."""
        shutil.copytree(SOURCE / "agents/python", self.dir / "sources")
        return self.dir / "sources"

    def mypy(self, *arguments, code=0, **more):
        program = shutil.which("mypy")
        self.assertTrue(program, "mypy is missing: run ./launch/setup --tests")
        return self.run_program(program, "--strict", "--enable-incomplete-feature=Unpack",
                                "--cache-dir", self.dir / "cache", *arguments, code=code, **more)


class Wheel(Case):

    def test_holds_the_package_its_types_and_nothing_else(self):
        self.run_program(sys.executable, *PIP, "wheel", *OFFLINE, "--no-deps", "-w", self.dir,
                         self.sources())
        wheel, = self.dir.glob("polykv-*-py3-none-any.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
            metadata, = (archive.read(name).decode() for name in archive.namelist()
                         if name.endswith("/METADATA"))
        wanted = {f"polykv/{file.name}" for file in
                  (SOURCE / "agents/python/src/polykv").iterdir() if file.is_file()}
        self.assertEqual(names, wanted)
        self.assertIn("polykv/py.typed", names)
        needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
        self.assertEqual([re.sub(r"[ ()]", "", need) for need in needs],
                         ["Requires-Dist:pyzmq>=24"])

    def test_has_the_version_of_the_programs(self):
        cmake = (SOURCE / "CMakeLists.txt").read_text()
        version = cmake.split("project(polykv VERSION ")[1].split()[0]
        self.assertIn(f'\nversion = "{version}"\n',
                      (SOURCE / "agents/python/pyproject.toml").read_text())
        self.assertIn(f'\n__version__ = "{version}"\n',
                      (SOURCE / "agents/python/src/polykv/__init__.py").read_text())


class FreshEnvironment(Case):
    """`python3 -m venv`, `pip install ./agents/python`, offline: pyzmq is Debian's."""

    def setUp(self):
        super().setUp()
        self.run_program(sys.executable, "-m", "venv", "--system-site-packages", self.dir / "env")
        self.python = self.dir / "env/bin/python"
        self.run_program(self.python, *PIP, "install", *OFFLINE, self.sources())

    def test_connects_and_asks(self):
        fake = fake_runtime.FakeRuntime(self.dir)
        self.addCleanup(fake.die)
        fake.script["generate"] = lambda _: [("done", {"text": "From a fresh environment."})]
        program = ("import polykv\nwith polykv.connect('.') as client:\n"
                   "  print(polykv.__file__, client.pool().ask('Why?').text, sep='|')\n")
        place, text = self.run_program(self.python, "-c", program).strip().split("|")
        self.assertTrue(place.startswith(str(self.dir / "env")), place)
        self.assertEqual(text, "From a fresh environment.")

    def test_is_typed_for_those_who_check_their_own_program(self):
        program = self.dir / "mine.py"
        program.write_text("import polykv\nwith polykv.connect() as client:\n"
                           "    answer = client.pool().ask('Why?', max_tokens=8)\n"
                           "    print(answer.text + 1, answer.words)\n")
        said = self.mypy("--python-executable", self.python, program, code=1)
        self.assertIn('Unsupported operand types for + ("str" and "int")', said)
        self.assertIn('"Answer" has no attribute "words"', said)
        self.assertIn("Found 2 errors", said)


class Types(Case):

    def test_the_package_is_strictly_typed(self):
        self.mypy(SOURCE / "agents/python/src/polykv")

    def test_the_workflows_are_strictly_typed(self):
        workflows = sorted((SOURCE / "agents/workflows").glob("*.py"))
        self.assertGreater(len(workflows), 4)
        for workflow in workflows:
            with self.subTest(workflow.name):
                self.mypy(workflow, MYPYPATH=str(SOURCE / "agents/python/src"))


if __name__ == "__main__":
    unittest.main()
