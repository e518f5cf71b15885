"""The arithmetic of the comparison, without any process: windows, slopes, spreads, divergences."""

import dataclasses
import hashlib
import math
import operator
import statistics

from . import CompareError


class NoWindow(CompareError):
    """There was no time in which all streams delivered."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """When each event of one generation reached the client, and how many tokens they were."""
    times: tuple[float, ...]  # seconds on the one clock, ascending
    tokens: int
    sizes: tuple[int, ...]  # characters of each event: it stands for as many tokens

    @classmethod
    def of(cls, pieces, tokens):
        """Of [(seconds, characters)]."""
        return cls(tuple(at for at, _ in pieces), tokens, tuple(size for _, size in pieces))

    def within(self, begin, end):
        """Tokens of the events after begin, up to end."""
        came = sum(size for at, size in zip(self.times, self.sizes) if begin < at <= end)
        return self.tokens * came / sum(self.sizes)


def rate(stream):
    """Tokens per second of one generation after its first event."""
    if len(stream.times) < 2 or stream.times[-1] <= stream.times[0]:
        raise NoWindow(f"{len(stream.times)} events came: at least 2 are needed for a rate")
    begin, end = stream.times[0], stream.times[-1]
    return stream.within(begin, end) / (end - begin)


def window(streams):
    """From the moment the last stream has begun to the moment the first one ends."""
    if not streams or any(not stream.times for stream in streams):
        raise NoWindow("a stream delivered nothing")
    begin = max(stream.times[0] for stream in streams)
    end = min(stream.times[-1] for stream in streams)
    if end <= begin:
        raise NoWindow(f"the last of {len(streams)} streams began {begin - end:.3f} s after the "
                       "first one had ended: ask for more tokens")
    return begin, end


def aggregate_rate(streams):
    """Tokens per second of all streams together, while all of them generate."""
    begin, end = window(streams)
    return sum(stream.within(begin, end) for stream in streams) / (end - begin)


@dataclasses.dataclass(frozen=True)
class Line:
    """y = at_zero + slope * x by least squares; residual: the largest |error| over the mean y."""
    slope: float
    at_zero: float
    residual: float


def line_through(points):
    xs, ys = zip(*points)
    if len(set(xs)) < 2:
        raise ValueError("a slope needs two different contexts")
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    slope = (sum((x - mean_x) * (y - mean_y) for x, y in points)
             / sum((x - mean_x) ** 2 for x in xs))
    at_zero = mean_y - slope * mean_x
    worst = max(abs(y - at_zero - slope * x) for x, y in points)
    return Line(slope, at_zero, worst / mean_y)


@dataclasses.dataclass(frozen=True)
class Spread:
    low: float
    median: float
    high: float


def spread(values):
    return Spread(min(values), statistics.median(values), max(values))


def ratio(ours, peer, more_is_better):
    """How many times better ours is."""
    if ours is None or peer is None:
        return None
    return ours / peer if more_is_better else peer / ours


def output_hash(texts):
    """Of all answers of a timed run, in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def log_probabilities(logits, floor=16.0):
    """Natural logs that add up to 1 in all. Nothing lies further than `floor` under the top:
    llama.cpp's files of logits end there, so that all sides are read alike."""
    top = max(logits)
    lowest = top - floor
    cut = [x if x > lowest else lowest for x in logits]
    normaliser = top + math.log(sum(math.exp(x - top) for x in cut))
    return [x - normaliser for x in cut]


def divergence(reference, other):
    """KL(reference || other) of two rows of log probabilities."""
    differences = map(operator.sub, reference, other)
    return sum(map(operator.mul, map(math.exp, reference), differences))
