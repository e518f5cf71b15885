"""Single kernels and plain reading, by the Google Benchmark program polykv_bench."""

import json
import re
import subprocess

from . import CompareError


class BenchError(CompareError):
    """polykv_bench is missing, or said something else than expected."""


ATTEND = "attend/k4v4/{isa}/queries:3/tokens:16384/dim:64/"
W4 = "matmul/w4/{isa}/rows:1/"
READ = "read_memory/threads:2/MiB:400/"
ISAS = ("amx", "avx512vbmi", "avx512", "avx2")  # from the best on


def isas(without_amx):
    """The sets that may be used, from the best on."""
    return ISAS[1:] if without_amx else ISAS


def best_without_amx(cpuinfo):
    """What POLYKV_ISA is set to, so that the matrix extensions are left alone."""
    flags = set(cpuinfo.split())
    if "avx512vbmi" in flags:
        return "avx512vbmi"
    return "avx512" if "avx512_vnni" in flags else "avx2"


def program(programs):
    """polykv_bench; says how to build it if it is not there."""
    path = programs / "polykv_bench"
    if not path.exists():
        raise BenchError(f"{path} is not built: install libbenchmark-dev, then cmake --preset "
                         "release && cmake --build build/release --target polykv_bench")
    return path


def read_figures(text):
    """Google Benchmark's JSON: {name up to its manual_time: its counters}."""
    return {re.sub(r"manual_time$", "", one["name"]): one
            for one in json.loads(text)["benchmarks"]}


def _run(path, pattern):
    command = [str(path), f"--benchmark_filter={pattern}", "--benchmark_format=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        raise BenchError(f"polykv_bench failed with {done.returncode}: "
                         + done.stderr.strip()[-200:])
    return read_figures(done.stdout)


def read_bandwidth(path):
    """GB/s of two threads out of 400 MB of a memfd."""
    return _run(path, "^" + READ)[READ]["GB/s"]


def best(figures, name, sets=ISAS):
    """The figures of the best of these instruction sets that has this kernel."""
    for isa in sets:
        if name.format(isa=isa) in figures:
            return figures[name.format(isa=isa)], isa
    raise BenchError(f"polykv_bench has no {name}")


def shares_of_reading(path, sets=ISAS):
    """{row: (per cent of the read bandwidth, instruction set)}, measured in turns with reading."""
    shares = {}
    for row, name in (("attend", ATTEND), ("w4", W4)):
        figures = _run(path, "^" + name.format(isa="(" + "|".join(sets) + ")"))
        one, isa = best(figures, name, sets)
        shares[row] = (100 * one["of_read"], isa)
    return shares
