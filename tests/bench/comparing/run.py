"""A whole run: both sides in turns, round by round."""

import contextlib
import datetime
import pathlib
import statistics
import subprocess
import sys
import time

import polykv

from . import CompareError, kernels, logits, ours, peer, report, rows

ERRORS = (CompareError, polykv.PolykvError, OSError)
NEW_AGENTS = 5  # a round
MANY_AGENTS = 100
# How `polykv up` is started for a figure, and its agents.
RUNTIMES = {"single": (("--threads", "2"), 1),
            "processes": (("--threads", "1"), rows.AGENTS),
            "lanes": (("--threads", "2", "--lanes", str(rows.AGENTS)), 1)}
KLDS = {"kld", "kld_arithmetic"}
ONCE = {"memory", "attend", "w4"} | KLDS  # figures that no round repeats


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def runtime_of(name):
    side = rows.side_of(name)
    return side if side in RUNTIMES else "single"


class Run:
    """What is measured, by whom, and what has come of it so far."""

    def __init__(self, given):
        self.given, self.notes, self.rounds = given, [], 0
        self.start, self.machine = time.monotonic(), machine()
        self.bench = kernels.program(given.programs)
        self.read = kernels.read_bandwidth(self.bench)
        say(f"two threads read {self.read:.1f} GB/s out of 400 MB of a memfd")
        self.rows = [rows.BY_NAME[name] for name in given.rows or rows.BY_NAME]
        self.ours_needs, self.peer_needs = rows.needs(self.rows, "ours"), rows.needs(self.rows,
                                                                                    "peer")
        self.json_rows, self.texts = [], {}
        self.settings, self.probe, self.isa, self.commands = {}, {}, "", {}
        self.sets, self.peer_best, self.peer, self.second = [], {}, None, None

    # --- llama.cpp ------------------------------------------------------------------------------

    def prepare_peer(self):
        if not self.peer_needs and not KLDS & self.ours_needs:
            return
        folder = self.given.peer
        programs = peer.build(folder, self.given.without_amx, say)
        self.peer = peer.Peer(programs, self.given.model)
        self.second = peer.Peer(
            programs, peer.requantised(programs, self.given.model, "Q4_0", folder, say))
        if KLDS & self.ours_needs:
            self.reference = logits.reference_file(
                programs, self.given.model, ours.text_source(), folder, say)
        self.settings = dict(peer.DEFAULTS)
        if not self.given.quick:
            self.settings, self.probe = peer.best_settings(self.peer, rows.AGENTS, say)

    def peer_figures(self, one, names):
        """Of one file; `names`: which."""
        found = {}
        depths = sorted(int(name.split("@")[1]) for name in names if "@" in name)
        if depths:
            speeds = one.bench("decode", self.settings["decode"], (), depths, (peer.DECODED,))
            found |= {f"decode@{depth}": speeds[0, peer.DECODED, depth] for depth in depths}
        if "first_token" in names:
            speeds = one.bench("first_token", self.settings["first_token"], (rows.PROMPT,),
                               (rows.POOL,))
            found["first_token"] = 1e3 * rows.PROMPT / speeds[rows.PROMPT, 0, rows.POOL]
        if "prefill" in names:
            speeds = one.bench("prefill", self.settings["prefill"], (rows.POOL,))
            found["prefill"] = speeds[rows.POOL, 0, 0]
        if "aggregate" in names:
            _, found["aggregate"] = one.batched("aggregate", self.settings["aggregate"], rows.POOL,
                                                rows.AGENTS)
        return found

    # --- polykv ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def runtimes(self):
        """{name: Runtime} of all that the rounds need; those that wait use no processor."""
        wanted = {runtime_of(name): set() for name in self.ours_needs - ONCE}
        for name in self.ours_needs - ONCE:
            depth = int(name.split("@")[1]) if "@" in name else rows.POOL
            wanted[runtime_of(name)].add(depth)
        async with contextlib.AsyncExitStack() as stack:
            started = {}
            for name, depths in wanted.items():
                options, agents = RUNTIMES[name]
                say(f"polykv up {' '.join(options)}, pools of {sorted(depths)} tokens")
                started[name] = await stack.enter_async_context(
                    ours.runtime(self.given.programs, self.given.model, *options, agents=agents,
                                 pools=sorted(depths)))
                self.isa = await started[name].kernel()
            yield started

    async def ours_figure(self, runtimes, name, round_):
        side, depth = rows.side_of(name), int(name.split("@")[1]) if "@" in name else rows.POOL
        runtime = runtimes[runtime_of(name)]
        if side == "decode":
            value, answer = await ours.decode(runtime, depth, round_)
            self.texts[name] = [answer.text]
        elif side in ("processes", "lanes"):
            value, answers = await ours.aggregate(runtime, depth, rows.AGENTS, round_)
            self.texts[name] = [answer.text for answer in answers]
        elif side == "prefill":
            value, _ = await ours.prefill(runtime, depth, round_)
        elif side == "first_token":
            value, answer = await ours.first_token(runtime, depth, rows.PROMPT, round_)
            self.texts[name] = [answer.text]
        else:
            value = statistics.median([await ours.new_agent(runtime, depth)
                                       for _ in range(NEW_AGENTS)])
        say(f"  ours {name}: {value:.1f}")
        return value

    async def once(self):
        """What no round repeats, with nothing else running."""
        mine, theirs, other = {}, {}, {}
        if "memory" in self.ours_needs:
            async with ours.runtime(self.given.programs, self.given.model, "--threads", "1",
                                    pools=(rows.POOL,)) as runtime:
                mine["memory"] = await ours.memory_of_agents(runtime, rows.POOL, MANY_AGENTS)
        if {"attend", "w4"} & self.ours_needs:
            for name, (share, isa) in kernels.shares_of_reading(
                    self.bench, kernels.isas(self.given.without_amx)).items():
                mine[name] = share
                say(f"  ours {name} ({isa}): {share:.0f} % of reading")
        if KLDS & self.ours_needs:
            mine_too, theirs, other = await self.divergences()
            mine |= mine_too
        return mine, theirs, other

    async def divergences(self):
        """Figures of each side: the KLD of its logits against the fp32 reference."""
        folder, text = self.given.peer / "models", ours.text_source()
        files = [folder / "compared.logits", folder / "compared-Q4_0.logits"]
        try:
            for one, file in zip((self.peer, self.second), files):
                said = logits.saved(one, "kld", self.settings["decode"], text, file)
                self.sets = peer.instruction_sets(said)
            async with ours.runtime(self.given.programs, self.given.model,
                                    "--threads", "2") as runtime:
                found, tokens = await logits.ours(runtime, text, ("k4v4", "f32"))
            if logits.LogFile(files[0]).tokens[:len(tokens)] != tokens:
                raise ours.OursError("the two sides do not see the same tokens in the same text")
            klds = logits.divergences(self.reference, [found["k4v4"], found["f32"], *files])
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        return ({"kld": klds[0], "kld_arithmetic": klds[1]}, {"kld": klds[2]}, {"kld": klds[3]})

    # --- both -----------------------------------------------------------------------------------

    async def round(self, runtimes, round_):
        """One of each: what belongs together is measured one after the other."""
        mine, theirs, other = {}, {}, {}
        for peer_names, our_names in self.turns():
            if peer_names:
                say(f"  llama.cpp: {', '.join(sorted(peer_names))}")
                theirs |= self.peer_figures(self.peer, peer_names)
                again = peer_names - {f"decode@{depth}" for depth in rows.DEPTHS
                                      if depth != rows.POOL}
                other |= self.peer_figures(self.second, again)
            for name in sorted(our_names):
                mine[name] = await self.ours_figure(runtimes, name, round_)
        for name, value in theirs.items():
            self.peer_best[name] = max(value, self.peer_best.get(name, value))
        self.add(round_, mine, theirs, other)
        self.rounds = round_

    def turns(self):
        """(llama.cpp's figures, ours) that stand against each other."""
        groups = (({"decode"}, {"decode"}),
                  ({"prefill"}, {"prefill", "new_agent"}),
                  ({"first_token"}, {"first_token"}),
                  ({"aggregate"}, {"processes", "lanes"}))
        for theirs, mine in groups:
            yield ({name for name in self.peer_needs if rows.side_of(name) in theirs},
                   {name for name in self.ours_needs if rows.side_of(name) in mine})

    def add(self, round_, mine, theirs, other):
        about = {"settings": {name: str(setting) for name, setting in self.settings.items()},
                 "texts": self.texts, "isa": self.isa}
        about["settings"].setdefault("kld", about["settings"].get("decode", ""))
        for row in self.rows:
            made = report.json_row(row, round_, mine, theirs, other, about)
            if made is not None:
                self.json_rows.append(made)

    def same_outputs(self):
        """Processes and lanes answer the same questions: word for word alike?"""
        for depth in rows.TAX_DEPTHS:
            found = {name: self.texts[f"{name}@{depth}"] for name in ("processes", "lanes")
                     if f"{name}@{depth}" in self.texts}
            if len(found) > 1:
                same = all(texts == next(iter(found.values())) for texts in found.values())
                yield (f"Answers of {', '.join(found)} at {depth}: "
                       + ("identical." if same else "NOT identical."))

    def document(self):
        kld = {row["name"]: (row["ours"], row["peer"]) for row in self.json_rows
               if row["name"] == "kld"}.get("kld", (None, None))
        for row in self.json_rows:
            row["kld_1e-6"], row["peer_kld_1e-6"] = kld
        commands = dict(self.peer.commands) if self.peer else {}
        commands.pop("probe", None)
        commands |= {f"{name} (Q4_0)": line for name, line in
                     (self.second.commands if self.peer else {}).items()}
        return {"date": datetime.date.today().isoformat(), "machine": self.machine,
                "rounds": self.rounds, "seconds": time.monotonic() - self.start,
                "model": self.given.model.name,
                "read_gb_per_s": self.read, "isa": self.isa,
                "without_amx": self.given.without_amx,
                "notes": self.notes + list(self.same_outputs()),
                "peer": {"version": peer.SDIST, "instruction_sets": self.sets,
                         "commands": commands,
                         "probed_at": peer.PROBE,
                         "probe": {str(setting): speeds for setting, speeds in
                                   self.probe.items()},
                         "too_slow": list(peer.too_slow(self.peer_best, self.read))},
                "rows": self.json_rows}

    def keep(self):
        """The document so far, written, too, so that an interrupted run is not lost."""
        made = self.document()
        if self.given.json:
            report.write(made, self.given.json)
        return made


def machine():
    """Processor and cores, as the kernel says."""
    info = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    commit = subprocess.run(["git", "-C", ours.SOURCE, "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True, check=False).stdout.strip()
    return f"{len(names)} cores of {names[0]}" + (f", commit {commit}" if commit else "")


async def measure(given):
    """The document of a whole run, as report.py reads it."""
    run = Run(given)
    run.prepare_peer()
    rounds = 1 if given.quick else given.rounds
    if run.ours_needs - ONCE:
        async with run.runtimes() as runtimes:
            for round_ in range(1, rounds + 1):
                say(f"round {round_} of {rounds}")
                await run.round(runtimes, round_)
                run.keep()
    run.add(0, *await run.once())
    return run.keep()
