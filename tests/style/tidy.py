"""Runs clang-tidy over the sources of a build folder, a few at a time, and remembers clean files.

    python3 tests/style/tidy.py BUILD_FOLDER [PART_OF_A_PATH ...]

A file is looked at again only when it, one of our headers that it includes, its compile command,
.clang-tidy or clang-tidy itself has changed.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

PROGRAM = "clang-tidy-19"
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)


def commands(build, root):
    """{source below root: its compile command}, from compile_commands.json."""
    entries = json.loads((build / "compile_commands.json").read_text())
    found = {}
    for entry in entries:
        source = pathlib.Path(entry["directory"], entry["file"]).resolve()
        inside = source.is_relative_to(root) and not source.is_relative_to(build)
        if inside and source.suffix == ".cpp":
            found[source] = entry["command"]
    return found


def closure(source, root):
    """The source and all of our headers that it includes, directly or not."""
    seen, waiting = set(), [source]
    while waiting:
        file = waiting.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        waiting += [root / name for name in _INCLUDE.findall(file.read_text(errors="replace"))]
    return sorted(seen)


def fingerprint(source, command, root, version):
    digest = hashlib.sha256(version + command.encode())
    for file in [root / ".clang-tidy", *closure(source, root)]:
        digest.update(str(file).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def look_at(source, build):
    """The findings in one file, '' if none."""
    # The compile commands are g++'s: a warning that clang does not know is none.
    run = subprocess.run(
        [PROGRAM, "-p", build, "--quiet", "--extra-arg=-Wno-unknown-warning-option", source],
        capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return ""
    return run.stdout + "\n".join(
        line for line in run.stderr.splitlines() if "error" in line and "generated" not in line)


def run(build, parts=(), workers=None, root=None):
    """{source: findings} of the files with findings."""
    build = pathlib.Path(build).resolve()
    root = pathlib.Path(root or pathlib.Path(__file__).resolve().parents[2]).resolve()
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, check=True).stdout
    clean = build / "tidy-clean"
    clean.mkdir(exist_ok=True)
    jobs = {}
    for source, command in commands(build, root).items():
        mark = clean / fingerprint(source, command, root, version)
        if not mark.exists() and (not parts or any(part in str(source) for part in parts)):
            jobs[source] = mark
    findings = {}
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 2) as pool:
        waiting = {pool.submit(look_at, source, build): source for source in jobs}
        for done in concurrent.futures.as_completed(waiting):
            source = waiting[done]
            if done.result():
                findings[source] = done.result()
            else:
                jobs[source].touch()
    return findings


def main(arguments):
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    findings = run(arguments[0], arguments[1:])
    for text in findings.values():
        print(text)
    print(f"{len(findings)} files with findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
