"""llama.cpp: fetched and built once, probed for its best settings, run, and its JSON read."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from . import CompareError

SDIST = "llama-cpp-python==0.3.36"
PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-quantize", "llama-perplexity")
# No OpenMP, because its threads spin between two tests; no network, no examples: nothing of speed.
BUILD = ("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DGGML_OPENMP=OFF", "-DLLAMA_CURL=OFF",
         "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DBUILD_SHARED_LIBS=OFF")
# Of a folder without AMX: what a processor with AVX-512 VNNI alone would be given.
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
THREADS = 2
DECODED = 96  # tokens of each sequence, as many as ours answer: all of them lengthen the context
PROMPT = 64
PROBE = 1024  # tokens of context while settings are tried


class PeerError(CompareError):
    """llama.cpp is missing, or said something else than expected."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """How attention is run and K and V are kept. V can be quantised only with flash attention."""
    flash: bool
    k: str
    v: str

    def flags(self):
        on = "on" if self.flash else "off"
        return ["-fa", on, "-ctk", self.k, "-ctv", self.v]

    def __str__(self):
        return " ".join(self.flags())


SETTINGS = tuple(Setting(False, k, "f16") for k in ("f16", "q8_0", "q4_0")) + tuple(
    Setting(True, kind, kind) for kind in ("f16", "q8_0", "q4_0"))

# What was best where this was written; --quick takes them unprobed.
DEFAULTS = {"decode": SETTINGS[1], "aggregate": SETTINGS[0], "first_token": SETTINGS[0],
            "prefill": SETTINGS[3]}


def compilers():
    """g++ 12 crashes on the matrix extensions of newer CPUs; clang builds them."""
    for number in ("-19", "-20", "-18", "-17", "-16", ""):
        pair = f"clang{number}", f"clang++{number}"
        if all(map(shutil.which, pair)):
            return [f"-DCMAKE_C_COMPILER={pair[0]}", f"-DCMAKE_CXX_COMPILER={pair[1]}"]
    return ["-DGGML_NATIVE=OFF", "-DGGML_AVX512=ON", "-DGGML_AVX512_VNNI=ON", "-DGGML_AVX2=ON",
            "-DGGML_FMA=ON", "-DGGML_F16C=ON"] if shutil.which("g++") else []


def _run(command, what, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          errors="replace", check=False, **more)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise PeerError(f"{what} failed with {done.returncode}: {' / '.join(last)}")
    return done


def fetch(folder, say):
    """The source distribution, unpacked to folder/vendor/llama.cpp."""
    say(f"downloading {SDIST} (70 MB of source)")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        # pip asks a source for its name and version, which takes what that is built with: isolated,
        # it fetches that, too.
        _run(["python3", "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python",
              "--dest", place, SDIST], "pip download")
        archive = next(pathlib.Path(place).glob("*.tar.gz"), None)
        if archive is None:
            raise PeerError(f"pip left no source of {SDIST}")
        _run(["tar", "--extract", "--no-same-owner", "--file", archive, "--directory", place],
             "tar")
        shutil.move(next(pathlib.Path(place).glob("*/vendor")), folder / "vendor")


def build(folder, without_amx, say):
    """Its programs in folder/build/bin (build-without-amx/bin); nothing to do if there."""
    place = folder / ("build-without-amx" if without_amx else "build")
    programs = place / "bin"
    if all((programs / name).exists() for name in PROGRAMS):
        return programs
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "vendor/llama.cpp/CMakeLists.txt").exists():
        fetch(folder, say)
    say("building llama.cpp, once: about 10 minutes on 2 cores")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    flags = [f"-DCMAKE_{word}_FLAGS={NO_AMX}" for word in ("C", "CXX")] if without_amx else []
    _run(["cmake", *generator, "-S", folder / "vendor/llama.cpp", "-B", place, *BUILD,
          *compilers(), *flags], "cmake of llama.cpp")
    _run(["cmake", "--build", place, f"-j{os.cpu_count()}", "--target", *PROGRAMS],
         "the build of llama.cpp")
    return programs


def requantised(programs, model, kind, folder, say):
    """The model in another type of weights, made once."""
    made = folder / "models" / f"{pathlib.Path(model).stem}-{kind}.gguf"
    if not made.exists() or made.stat().st_mtime < os.stat(model).st_mtime:
        say(f"llama-quantize to {kind}, once")
        made.parent.mkdir(parents=True, exist_ok=True)
        _run([programs / "llama-quantize", "--allow-requantize", model, f"{made}.part", kind],
             "llama-quantize")
        os.replace(f"{made}.part", made)
    return made


def objects(text):
    """The JSON objects among a program's lines."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def read_bench(text):
    """llama-bench: {(prompt, generated, depth): tokens per second}."""
    return {(one["n_prompt"], one["n_gen"], one["n_depth"]): one["avg_ts"]
            for one in objects(text)}


def read_batched(text):
    """llama-batched-bench: {sequences: (prefill t/s, decode t/s of all)}."""
    return {one["pl"]: (one["speed_pp"], one["speed_tg"]) for one in objects(text)}


class Peer:
    """One model file under llama.cpp. Each method runs a program and returns figures."""

    def __init__(self, programs, model):
        self.programs, self.model = programs, model
        self.commands = {}  # what was run last for each figure, for the report

    def bench(self, name, setting, prompts=(), depths=(0,), generated=()):
        command = ["llama-bench", "-m", self.model, "-t", THREADS, "-r", 1, "-o", "jsonl",
                   "--no-warmup", *setting.flags(), "-p", _list(prompts), "-n", _list(generated),
                   "-d", _list(depths)]
        return read_bench(self._run(name, command).stdout)

    def batched(self, name, setting, context, sequences):
        cells = max(8192, context + sequences * DECODED + 256)
        command = ["llama-batched-bench", "-m", self.model, "-t", THREADS, "-tb", THREADS,
                   *setting.flags(), "-npp", context, "-ntg", DECODED, "-npl", sequences, "-pps",
                   "-kvu", "-c", cells, "--output-format", "jsonl"]
        figures = read_batched(self._run(name, command).stdout)
        if sequences not in figures:
            raise PeerError(f"llama-batched-bench gave no figure for {sequences} sequences")
        return figures[sequences]

    def log_probabilities(self, name, setting, text, context, file):
        """llama-perplexity's file of the second half of one window; returns what it said."""
        command = ["llama-perplexity", "-m", self.model, "-t", THREADS, *setting.flags(), "-f",
                   text, "-c", context, "--chunks", 1, "--kl-divergence-base", file]
        done = self._run(name, command)
        return done.stdout + done.stderr

    def _run(self, name, command):
        words = [str(word) for word in command]
        self.commands[name] = " ".join(map(os.path.basename, words))
        return _run([self.programs / words[0], *words[1:]], words[0])


def _list(numbers):
    return ",".join(map(str, numbers)) or "0"


def best_settings(peer, sequences, say):
    """{figure: the setting that is fastest at it}: every one is tried, briefly."""
    tried = {}
    for setting in SETTINGS:
        say(f"trying llama.cpp with {setting}")
        prefill, aggregate = peer.batched("probe", setting, PROBE, sequences)
        speeds = peer.bench("probe", setting, (PROMPT,), (PROBE,), (16,))
        tried[setting] = {"prefill": prefill, "aggregate": aggregate,
                          "first_token": speeds[PROMPT, 0, PROBE],
                          "decode": speeds[0, 16, PROBE]}
    names = ("prefill", "aggregate", "first_token", "decode")
    return {name: max(tried, key=lambda one: tried[one][name]) for name in names}, tried


# The figures of reference on 2 cores that read 26 GB/s out of 400 MB: tokens per second. Of 15
# sequences of 96 tokens: 0.92 times (measured in turns) the 92.4 that such of 32 tokens gave.
REFERENCE_GB_PER_S = 26
REFERENCE = {"decode@4096": 33.9, "aggregate": 85.0, "prefill": 136}
LEAST = 0.8


def too_slow(figures, gb_per_s):
    """Sentences: which figure is below 80 % of the reference for each GB/s of this machine."""
    for name, reference in REFERENCE.items():
        least = LEAST * reference * gb_per_s / REFERENCE_GB_PER_S
        if name in figures and figures[name] < least:
            yield (f"llama.cpp reached {figures[name]:.1f} tokens/s at '{name}'; on a machine that "
                   f"reads {gb_per_s:.0f} GB/s at least {least:.1f} are expected: it is built or "
                   "set badly, or something else runs here")


def instruction_sets(text):
    """What a program says of itself, such as AVX512_VNNI or AMX_INT8."""
    found = re.search(r"system_info: .*", text)
    return re.findall(r"(\w+) = 1", found.group()) if found else []
