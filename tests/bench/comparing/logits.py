"""How far each side's logits are from fp32, on the same text and the same tokens.

The reference is llama.cpp's own: the file's weights written out as F32, K and V in F32, no flash
attention. Its files of log probabilities hold the second half of one window, 16 bits each, down to
16 nats under the top; our logits are cut there, too.
"""

import array
import dataclasses
import os
import pathlib
import statistics
import struct

from . import arithmetic, peer

WINDOW = 4096  # tokens of llama.cpp's window; the second half is predicted. It wants two windows
PREFIX = WINDOW // 2  # of which ours has this much in the pool
FORCED = 512  # predicted tokens, of which
STEP = 2  # every second one is compared
FP32 = peer.Setting(False, "f32", "f32")


class LogFile:
    """A file of llama-perplexity --kl-divergence-base."""

    def __init__(self, path):
        self._file = open(path, "rb")
        head = self._file.read(20)
        if len(head) != 20 or not head.startswith(b"_logits_"):
            raise peer.PeerError(f"{path} is no whole file of llama-perplexity's logits")
        self.context, self.vocabulary, chunks = struct.unpack_from("<3i", head, 8)
        tokens = self._file.read(4 * self.context * chunks)
        self.tokens = array.array("i", tokens).tolist()
        self._rows_at = self._file.tell()

    def row(self, index):
        """Log probabilities after token context/2 + index."""
        words = 2 * ((self.vocabulary + 1) // 2) + 4
        self._file.seek(self._rows_at + index * words * 2)
        row = self._file.read(words * 2)
        if len(row) != words * 2:
            raise peer.PeerError(f"the file of logits ends before row {index}")
        scale, lowest = struct.unpack_from("<2f", row)
        codes = array.array("H", row[8:8 + 2 * self.vocabulary])
        # Once more, because what was cut and rounded to 16 bits does not add up to 1.
        return arithmetic.log_probabilities([lowest + scale * code for code in codes])


@dataclasses.dataclass(frozen=True)
class Ours:
    """Our logits in memory."""
    memory: object
    vocabulary: int

    def row(self, index):
        at = 4 * self.vocabulary * index
        return arithmetic.log_probabilities(
            array.array("f", self.memory[at:at + 4 * self.vocabulary]))


def divergences(reference_path, others):
    """[median KLD] of each of `others`: a path of a log file, or Ours."""
    reference = LogFile(reference_path)
    sources = [one if isinstance(one, Ours) else LogFile(one) for one in others]
    found = [[] for _ in sources]
    for index in range(0, FORCED, STEP):
        row = reference.row(index)
        for divergences_, source in zip(found, sources):
            divergences_.append(arithmetic.divergence(row, source.row(index)))
    return [statistics.median(one) for one in found]


def saved(one, name, setting, text, path):
    """What llama-perplexity said while it wrote a log file that has all rows."""
    part = pathlib.Path(f"{path}.part")
    source = path.with_suffix(".txt")
    source.write_text(text)
    try:
        said = one.log_probabilities(name, setting, source, WINDOW, part)
        LogFile(part).row(FORCED - 1)
        os.replace(part, path)
    finally:
        source.unlink()
        part.unlink(missing_ok=True)
    return said


def reference_file(programs, model, text, folder, say):
    """The log file of the fp32 model, made once for a model and text."""
    stamp = f"{os.stat(model).st_size}-{os.stat(model).st_mtime_ns}-{WINDOW}"
    made = folder / "models" / f"{pathlib.Path(model).stem}-{stamp}.logits"
    if not made.exists():
        full = peer.requantised(programs, model, "F32", folder, say)
        say("fp32 reference of the logits, once: about a minute")
        saved(peer.Peer(programs, full), "fp32", FP32, text, made)
        full.unlink()
    return made


async def ours(runtime_, text, codecs):
    """{codec: Ours}, by the path of `polykv eval`: prefilled, encoded, sealed, attended to."""
    tokens = runtime_.memory.tokenise(text, "raw")
    runtime_.memory.prefill("kld", tokens[:PREFIX], codecs)
    found = {}
    for codec in codecs:
        agents = await runtime_.client.pool(f"kld-{codec}").start_agents(1)
        memory, vocabulary = runtime_.memory.score(agents[0], tokens[PREFIX:PREFIX + FORCED])
        found[codec] = Ours(memory, vocabulary)
        await runtime_.client.stop_agents(agents[0])
    return found, tokens[:PREFIX + FORCED]
