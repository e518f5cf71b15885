"""polykv's side: a runtime of its own, driven by the Python client, timed on the client's clock."""

import asyncio
import contextlib
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import polykv

from . import CompareError, arithmetic
from .memory_requests import MemoryRequests

SOURCE = pathlib.Path(__file__).parents[3]
READY_S = 120
DECODED = 96  # tokens a stream
WARM = 4


class OursError(CompareError):
    """polykv did something else than was asked."""


def text_source():
    """Plain text of any length: licences, one after the other."""
    folder = pathlib.Path("/usr/share/common-licenses")
    names = ("GPL-3", "GPL-2", "LGPL-2.1")
    texts = [(folder / name).read_text() for name in names if (folder / name).exists()]
    if len(texts) < len(names):
        raise OursError(f"the texts to compare on, {', '.join(names)}, are not in {folder}")
    return "\n".join(texts)


class Runtime:
    """`polykv up` in a directory of its own, and a client of it."""

    def __init__(self, programs, model, *options):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pkv-cmp-", dir="/tmp"))
        self.path = self.directory / "rt"
        self.options = options
        self.pools = {}  # tokens asked for -> AsyncPool
        self._command = [programs / "polykv", "up", "--model", model, "--runtime", self.path,
                         "--log-level", "warning", *options]

    async def __aenter__(self):
        with open(self.directory / "log", "wb") as log:
            self._process = subprocess.Popen([str(word) for word in self._command], stdout=log,
                                             stderr=subprocess.STDOUT)
        try:
            await self._until_ready()
            self.client = await polykv.aconnect(str(self.path))
            self.memory = MemoryRequests(self.path)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_):
        self.memory.close()
        await self.client.close()
        self._end()

    async def _until_ready(self):
        end = time.monotonic() + READY_S
        while b"ready" not in (said := (self.directory / "log").read_bytes()):
            if self._process.poll() is not None or time.monotonic() > end:
                raise OursError("polykv up did not start: "
                                + said.decode(errors="replace").strip()[-400:])
            await asyncio.sleep(0.02)  # between two looks at another process

    def _end(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def cut(self, text, tokens):
        """The longest beginning of the text that is, as a pool, at most so many tokens."""
        low, high = 1, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(self.memory.tokenise(text[:middle], "document")) <= tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        return text[:low]

    async def pool(self, tokens):
        """The pool of so many tokens, made the first time; 0: the smallest there can be."""
        if tokens not in self.pools:
            text = self.cut(text_source(), tokens) if tokens else "."
            self.pools[tokens] = await self.client.create_pool(f"of-{tokens}", text=text)
        return self.pools[tokens]

    async def kernel(self):
        """Which kernels the agents use, as they say themselves."""
        kernels = {agent.kernel for agent in (await self.client.status()).agents}
        return " / ".join(sorted(kernels))


@contextlib.asynccontextmanager
async def runtime(programs, model, *options, agents=0, pools=()):
    """A runtime with these pools and so many agents on the first of them."""
    async with Runtime(programs, model, *options) as made:
        for tokens in pools:
            await made.pool(tokens)
        if agents:
            await (await made.pool(pools[0])).start_agents(agents)
        yield made


class Timed:
    """Asks, and writes down when each piece of text arrives."""

    def __init__(self, pool, tokens):
        self._pool, self._tokens = pool, tokens

    async def one(self, prompt):
        """(Stream, seconds to the first piece, Answer) of one generation."""
        start, pieces = time.perf_counter(), []
        async with await self._pool.stream(prompt, **self._options()) as stream:
            async for text in stream:
                pieces.append((time.perf_counter(), len(text)))
            answer = stream.answer
        return arithmetic.Stream.of(pieces, answer.tokens), pieces[0][0] - start, answer

    async def group(self, prompts):
        """([Stream], [Answer]) of one group, all on one clock."""
        pieces = [[] for _ in prompts]
        clock = time.perf_counter
        done = await self._pool.group(
            prompts, **self._options(),
            on_text=lambda member, text: pieces[member].append((clock(), len(text))))
        for answer in done.answers:
            if isinstance(answer, polykv.PolykvError):
                raise answer
        return [arithmetic.Stream.of(came, answer.tokens)
                for came, answer in zip(pieces, done.answers)], done.answers

    def _options(self):
        return {"max_tokens": self._tokens, "min_tokens": self._tokens, "ignore_eos": True}


def questions(count, round_):
    """Different ones, and none that an agent has answered before: nothing is kept of it."""
    return [f"{round_ * count + i}: what does the text say about point {i}?"
            for i in range(count)]


async def decode(runtime_, tokens, round_):
    """(tokens/s of one agent, its answer)."""
    pool = await runtime_.pool(tokens)
    await Timed(pool, WARM).one(f"Warm up {round_}.")  # the lease and the first touch of its pages
    stream, _, answer = await Timed(pool, DECODED).one(*questions(1, round_))
    return arithmetic.rate(stream), answer


async def aggregate(runtime_, tokens, agents, round_):
    """(tokens/s of all agents while all generate, their answers)."""
    pool = await runtime_.pool(tokens)
    await Timed(pool, WARM).group([f"Warm up {round_} {i}." for i in range(agents)])
    streams, answers = await Timed(pool, DECODED).group(questions(agents, round_))
    return arithmetic.aggregate_rate(streams), answers


async def prefill(runtime_, tokens, round_):
    """(tokens/s from the request to the published version, tokens)."""
    text = runtime_.cut(text_source(), tokens)
    start = time.perf_counter()
    pool = await runtime_.client.create_pool(f"prefill-{round_}", text=text)
    seconds = time.perf_counter() - start
    count = pool.ready.tokens
    await pool.drop()
    return count / seconds, count


def prompt_of(runtime_, tokens, number):
    """A question that is so many tokens with all that belongs to its message."""
    def count(text):
        return len(runtime_.memory.tokenise(text, "question"))
    text = f"{number}:"
    while count(text + " word") <= tokens:
        text += " word"
    return text


async def first_token(runtime_, depth, tokens, round_):
    """(milliseconds from the request to its first token, as delivered; the answer)."""
    pool = await runtime_.pool(depth)
    await Timed(pool, WARM).one(f"Warm up {round_}.")
    _, seconds, answer = await Timed(pool, 1).one(prompt_of(runtime_, tokens, round_))
    if abs(answer.prompt_tokens - tokens) > 1 or answer.reused_tokens > 8:
        raise OursError(f"the prompt had {answer.prompt_tokens} tokens, {answer.reused_tokens} of "
                        f"them known already; {tokens} new ones were meant")
    return seconds * 1e3, answer


async def new_agent(runtime_, tokens):
    """Milliseconds from the start of a process until it is attached and ready."""
    pool = await runtime_.pool(tokens)
    names = await pool.start_agents(1)
    status = await runtime_.client.status()
    taken = [agent.attach_ms for agent in status.agents if agent.agent in names]
    await runtime_.client.stop_agents(names[0])
    end = time.monotonic() + READY_S
    while names[0] in await _alive(runtime_):
        if time.monotonic() > end:
            raise OursError(f"agent {names[0]} did not end in {READY_S} s")
        await asyncio.sleep(0.01)  # between two looks at another process
    return taken[0]


async def _alive(runtime_):
    """Names of the agents that have not ended."""
    status = await runtime_.client.status()
    return [agent.agent for agent in status.agents if agent.state != "ended"]


def private_bytes(directory):
    """Of all processes of a runtime, its supervisor and writer included; and how many."""
    total = 0
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if str(directory).encode() in words:
                text = (entry / "smaps_rollup").read_text()
                total += sum(map(int, re.findall(r"Private_\w+: +(\d+) kB", text))) * 1024
    return total


async def memory_of_agents(runtime_, tokens, most):
    """Megabytes that each agent from the 2nd to the last adds, having answered a short prompt."""
    pool = await runtime_.pool(tokens)
    used = []
    for count in (1, most):
        await pool.start_agents(count - len(await _alive(runtime_)))
        for agent in await _alive(runtime_):
            await pool.ask("Who wrote it?", agent=agent, max_tokens=8, ignore_eos=True)
        used.append(private_bytes(runtime_.path))
    return (used[1] - used[0]) / (most - 1) / 1e6
