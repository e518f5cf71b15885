"""What comes back, as frozen dataclasses. Field names are the protocol's (docs/protocol.md); 64-bit
ids, decimal strings on the wire, are ints here, and lists are tuples."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from .errors import BadMessage, PolykvError

T = TypeVar("T")
Message = dict[str, Any]


def read(kind: type[T], message: Message) -> T:
    """A dataclass of this kind from a message; BadMessage if a field is missing."""
    values: Message = {}
    fields: Any = kind  # newer checkers want a dataclass by its type
    for field in dataclasses.fields(fields):
        name = field.metadata.get("name", field.name)
        if name in message:
            convert = field.metadata.get("convert")
            values[field.name] = convert(message[name]) if convert else message[name]
        elif field.default is dataclasses.MISSING:
            raise BadMessage(f"the runtime's {message.get('type', kind.__name__)!r} has no "
                             f"{name!r}: is it of another release?", value=str(name))
    return kind(**values)


def _many(kind: type[T]) -> Callable[[list[Message]], tuple[T, ...]]:
    return lambda items: tuple(read(kind, item) for item in items)


def _number() -> Any:
    return dataclasses.field(default=0, metadata={"convert": int})


def _request() -> Any:
    return dataclasses.field(default="", metadata={"name": "id"})


@dataclasses.dataclass(frozen=True, slots=True)
class TokenChoice:
    """A token and the natural logarithm of its share, over the whole vocabulary, as the model gave
    it. `bytes` are there where the token is no whole characters, and `text` then is not exact."""
    token: int
    text: str
    logprob: float
    bytes: tuple[int, ...] = dataclasses.field(default=(), metadata={"convert": tuple})


@dataclasses.dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer; `top` are the likeliest ones in its place, the likeliest first."""
    token: int
    text: str
    logprob: float
    bytes: tuple[int, ...] = dataclasses.field(default=(), metadata={"convert": tuple})
    top: tuple[TokenChoice, ...] = dataclasses.field(
        default=(), metadata={"convert": _many(TokenChoice)})


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A finished generation. `request` is what `commit` and `cancel` take."""
    text: str
    reason: Literal["eos", "stop", "length", "cancelled"]
    pool: str
    version: int
    agent: str
    pid: int
    prompt_tokens: int
    tokens: int
    model: str = ""
    reused_tokens: int = 0  # of the prompt: computed for an earlier turn, not again
    token_ids: tuple[int, ...] = dataclasses.field(default=(), metadata={"convert": tuple})
    logprobs: tuple[TokenLogprob, ...] = dataclasses.field(  # one a token, where asked for
        default=(), metadata={"convert": _many(TokenLogprob)})
    member: int | None = None  # its number in a group
    attach_ms: float = 0.0
    ttft_ms: float = 0.0  # from the start to the first token
    tokens_per_s: float = 0.0
    private_bytes: int = 0
    peak_private_bytes: int = 0
    suffix_bytes: int = 0
    request: str = _request()


@dataclasses.dataclass(frozen=True, slots=True)
class PoolReady:
    """A version is there: of a new pool, an append, a fork, or (as an event) a commit."""
    pool: str
    version: int
    tokens: int
    bytes: int
    bits_per_element: float
    elements: int
    segments: int
    prefill_tokens: int  # computed for this version; 0 for a fork or a commit
    prefill_seconds: float
    model: str = ""
    seq: int = _number()


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """A turn became a version; `inode` is the agent's own memory, used as it is."""
    pool: str
    version: int
    agent: str
    pid: int
    turn_tokens: int
    tokens: int
    bytes: int
    segments: int
    prefill_tokens: int  # always 0: nothing was computed again
    inode: int = dataclasses.field(metadata={"convert": int})
    model: str = ""
    seq: int = _number()


@dataclasses.dataclass(frozen=True, slots=True)
class PoolDropped:
    """A pool is off the list; `leases` of it are still held."""
    pool: str
    version: int
    leases: int
    reason: Literal["asked", "expired", "evicted"]
    model: str = ""
    seq: int = _number()


@dataclasses.dataclass(frozen=True, slots=True)
class AgentBorn:
    """An agent is ready."""
    pool: str
    agent: str
    pid: int
    version: int
    restarts: int
    model: str = ""
    seq: int = _number()


@dataclasses.dataclass(frozen=True, slots=True)
class AgentEnded:
    """An agent's process has ended; `story` says how."""
    pool: str
    agent: str
    pid: int
    story: str
    model: str = ""
    seq: int = _number()


@dataclasses.dataclass(frozen=True, slots=True)
class TokenText:
    """A piece of some generation's text, as the bus tells it to whoever listens."""
    agent: str
    text: str
    pool: str = ""
    member: int | None = None
    seq: int = _number()


Event = PoolReady | Committed | PoolDropped | AgentBorn | AgentEnded | TokenText

_EVENTS: dict[str, type[Any]] = {
    "pool_ready": PoolReady, "committed": Committed, "pool_dropped": PoolDropped,
    "agent_born": AgentBorn, "agent_ended": AgentEnded, "token": TokenText}


def event_of(message: Message) -> Event:
    """The event that a message of the bus tells."""
    kind = _EVENTS.get(message["type"])
    if kind is None:
        raise BadMessage(f"the runtime's bus told {message['type']!r}, which is no event",
                         value=message["type"])
    event: Event = read(kind, message)
    return event


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a long request has come; `rate` is per second."""
    phase: str
    done: int
    all: int
    rate: float


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One question of a group: a prompt or messages, and what may differ from the others."""
    prompt: str | None = None
    messages: list[dict[str, str]] | None = None
    agent: str | None = None
    seed: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GroupStarted:
    """Every agent of the group holds `version`; `agents` in the order of the members."""
    pool: str
    version: int
    agents: tuple[str, ...] = dataclasses.field(metadata={"convert": tuple})
    model: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class GroupAnswer:
    """The end of a group. `answers` are in the order of the members; a member that failed has its
    error there instead."""
    pool: str
    version: int
    agents: tuple[str, ...]
    answers: tuple[Answer | PolykvError, ...]
    finished: int
    failed: int
    model: str = ""
    request: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class VersionStatus:
    version: int
    tokens: int
    leases: int
    pinned: bool


@dataclasses.dataclass(frozen=True, slots=True)
class PoolStatus:
    pool: str
    model: str
    version: int
    codec: str
    tokens: int
    bytes: int
    bits_per_element: float
    segments: int
    leases: int
    idle_seconds: float
    versions: tuple[VersionStatus, ...] = dataclasses.field(
        metadata={"convert": _many(VersionStatus)})
    ttl_seconds: int | None = None
    precision: str = ""  # how its segments were prefilled, as "fast: products tiles, …"


@dataclasses.dataclass(frozen=True, slots=True)
class AgentStatus:
    agent: str
    pid: int
    state: str
    model: str
    pool: str
    version: int
    kernel: str
    attach_ms: float
    private_bytes: int
    tokens: int
    tokens_per_s: float
    restarts: int
    last_error: str
    lanes: int = 1     # generations at once in its process;
    running: int = 0   # so many of them are taken
    threads: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelStatus:
    model: str
    name: str
    fingerprint: str
    image_bytes: int
    positions: int
    writer_pid: int
    writer_state: str
    writer_restarts: int
    sampling: str = ""  # of a request that says nothing
    image_source: str = ""  # "packed", or "cache": it was kept from an earlier start


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the runtime holds, at one moment."""
    pid: int
    held_bytes: int
    evicted_pools: int
    fallbacks: tuple[str, ...] = dataclasses.field(metadata={"convert": tuple})
    models: tuple[ModelStatus, ...] = dataclasses.field(metadata={"convert": _many(ModelStatus)})
    pools: tuple[PoolStatus, ...] = dataclasses.field(metadata={"convert": _many(PoolStatus)})
    agents: tuple[AgentStatus, ...] = dataclasses.field(metadata={"convert": _many(AgentStatus)})
    seq: int = dataclasses.field(metadata={"convert": int})  # of the bus's topics, for `events`
    agent_seq: int = dataclasses.field(metadata={"convert": int})
    token_seq: int = dataclasses.field(metadata={"convert": int})
    budget_bytes: int | None = None

    def pool(self, name: str, model: str | None = None) -> PoolStatus | None:
        """The pool of that name (of the first model, unless one is named), or None."""
        wanted = model or (self.models[0].model if self.models else "")
        for pool in self.pools:
            if pool.pool == name and pool.model == wanted:
                return pool
        return None

    def agent(self, name: str) -> AgentStatus | None:
        """The agent of that name, or None."""
        return next((agent for agent in self.agents if agent.agent == name), None)
