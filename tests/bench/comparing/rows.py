"""What is compared, how each row follows from figures, and the bars. No process is seen here.

A side's figures are numbers by name, measured in one round (`Row.ours` and `Row.peer` say which):
`decode@N`, `processes@N`, `lanes@N` and `prefill` in tokens/s, `first_token` and `new_agent` in
ms, `memory` in MB, `attend` and `w4` in % of reading, `kld…` in nats.
"""

import dataclasses
from collections.abc import Callable

from .arithmetic import line_through

AGENTS = 15
POOL = 4096  # tokens
PROMPT = 64
DEPTHS = (1024, 2048, 4096, 7500)
TAX_DEPTHS = (0, 4096, 7500)  # 0: the smallest pool that there can be


@dataclasses.dataclass(frozen=True)
class Bar:
    """Of the ratio (how many times better than the peer's) or of our own value."""
    on: str  # "ratio" or "ours"
    must: float
    aim: float | None = None

    def verdict(self, value, more_is_better):
        """"aim", "must" or "missed"."""
        upwards = self.on == "ratio" or more_is_better

        def reached(limit):
            return limit is not None and (value >= limit if upwards else value <= limit)
        return "aim" if reached(self.aim) else "must" if reached(self.must) else "missed"


@dataclasses.dataclass(frozen=True)
class Value:
    """How one side's value follows from its figures of a round."""
    needs: tuple[str, ...]
    of: Callable[[dict[str, float]], float]


def figure(name, scale=1.0):
    return Value((name,), lambda figures: scale * figures[name])


def _growth(figures):
    """Milliseconds per token over thousands of tokens of context."""
    return line_through([(depth / 1000, 1000 / figures[f"decode@{depth}"]) for depth in DEPTHS])


_DECODES = tuple(f"decode@{depth}" for depth in DEPTHS)
SLOPE = Value(_DECODES, lambda figures: _growth(figures).slope)
LINEAR = Value(_DECODES, lambda figures: 100 * _growth(figures).residual)


def over(above, below):
    return Value((above, below), lambda figures: figures[above] / figures[below])


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    what: str
    unit: str
    ours: Value
    peer: Value | None = None
    more_is_better: bool = True
    bars: tuple[Bar, ...] = ()
    digits: int = 1


def _taxes():
    for depth in TAX_DEPTHS:
        pool = f"pool of {depth:,}" if depth else "smallest pool"
        yield Row(f"tax_{depth}", f"isolation tax: 15 lanes over 15 processes, {pool}", "×",
                  over(f"lanes@{depth}", f"processes@{depth}"), more_is_better=False, digits=2)


ROWS = (
    Row("decode", "one agent, 2 threads, decode at 4,096", "tokens/s", figure("decode@4096"),
        figure("decode@4096"), bars=(Bar("ratio", 4, 6),)),
    Row("processes", "15 agents, 15 processes, aggregate decode at 4,096", "tokens/s",
        figure("processes@4096"), figure("aggregate"), bars=(Bar("ratio", 2, 4),)),
    Row("lanes", "15 lanes in one process, aggregate decode at 4,096", "tokens/s",
        figure("lanes@4096"), figure("aggregate"), bars=(Bar("ratio", 6, 10),)),
    Row("prefill", "prefill of 4,096 tokens", "tokens/s", figure("prefill"), figure("prefill"),
        bars=(Bar("ratio", 2.5, 4),), digits=0),
    Row("first_token", "prompt of 64 tokens at depth 4,096, time to first token", "ms",
        figure("first_token"), figure("first_token"), more_is_better=False,
        bars=(Bar("ratio", 3, 6),)),
    Row("new_agent", "new agent, process start to attached and ready; peer: its prefill", "ms",
        figure("new_agent"), Value(("prefill",), lambda figures: POOL / figures["prefill"] * 1e3),
        more_is_better=False, bars=(Bar("ours", 25, 10), Bar("ratio", 300))),
    Row("new_agent_own", "our own prefill's time over a new agent's", "×",
        Value(("prefill", "new_agent"),
              lambda figures: POOL / figures["prefill"] * 1e3 / figures["new_agent"]), digits=0),
    Row("slope", "growth: decode time per token for each 1,000 tokens of pool", "ms", SLOPE, SLOPE,
        more_is_better=False, bars=(Bar("ratio", 6, 12),), digits=3),
    Row("linear", "growth: farthest from a straight line, of the mean", "%", LINEAR, LINEAR,
        more_is_better=False),
    Row("memory", "private memory per added agent, 1 to 100 processes", "MB", figure("memory"),
        more_is_better=False, bars=(Bar("ours", 10, 5),), digits=2),
    *_taxes(),
    Row("attend", "attend k4v4, one query group, 16K tokens: of the memfd's read bandwidth", "%",
        figure("attend"), bars=(Bar("ours", 70, 90),)),
    Row("w4", "w4 product, 1 row: of the memfd's read bandwidth", "%", figure("w4"),
        bars=(Bar("ours", 70, 90),)),
    Row("kld", "median KLD of the logits against fp32, as timed", "1e-6 nats", figure("kld", 1e6),
        figure("kld", 1e6), more_is_better=False, digits=2),
    Row("kld_arithmetic", "the same over an f32 pool: our arithmetic alone", "1e-6 nats",
        figure("kld_arithmetic", 1e6), more_is_better=False, digits=2),
)
BY_NAME = {row.name: row for row in ROWS}

def side_of(name):
    """"processes" of "processes@4096"."""
    return name.split("@")[0]


def needs(rows, side):
    """The figures that one side has to measure."""
    values = (getattr(row, side) for row in rows)
    return {name for value in values if value is not None for name in value.needs}
