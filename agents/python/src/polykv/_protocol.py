"""The protocol without any socket (docs/protocol.md): frames, which answer is the last, the order
of events, the requests of a generation. Another transport may stand on this, too."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from .errors import BadMessage, BadText, PolykvError, ProtocolVersion, error_of
from .values import Answer, GroupAnswer, Member, read

Message = dict[str, Any]

VERSION = 1
FRAME_BYTES_MAX = 1 << 20  # ZeroMQ ends the connection of whoever sends more
TEXT_BYTES_MAX = 900_000  # a longer text goes as sealed memory
DEADLINE_S = 3600.0  # of a long request that names none
ANSWER_S = 60.0  # a runtime that lives answers any other request long before
LONG = ("pool_create", "append", "agents_start", "generate", "group_generate", "commit")
# The topics of the bus, and the field of a snapshot that says where each was.
TOPICS = {"pool": "seq", "agent": "agent_seq", "token": "token_seq"}


class Options(TypedDict, total=False):
    """What a generation may be asked with; what is left out is up to the runtime."""
    version: int  # this one exactly; without, the current one
    at_least: int  # wait until the current version has this number
    agent: str  # this agent; without, any free one
    deadline: float  # seconds, then the work is stopped and TimedOut raised
    max_tokens: int  # 256
    min_tokens: int
    temperature: float  # 0: greedy; this and the next four are by default as the model says
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: Sequence[str]
    ignore_eos: bool
    logprobs: bool  # how likely each token was: `Answer.logprobs`
    top_logprobs: int  # 0..20: and so many of the likeliest in its place


def default_runtime() -> str:
    """Where `polykv up` puts its sockets if nobody says otherwise."""
    named = os.environ.get("POLYKV_RUNTIME")
    base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    return named or (f"/tmp/polykv-{os.geteuid()}" if base == "/tmp" else base + "/polykv")


def new_identity() -> str:
    return f"python:{os.getpid()}:{secrets.token_hex(8)}"


def request(type_: str, **fields: Any) -> Message:
    """A request; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return {"v": VERSION, "type": type_, **given}


def encode(message: Message) -> bytes:
    """The frame of a message; refuses what the runtime would answer by hanging up."""
    try:
        frame = json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise BadText(f"the text holds a lone surrogate at character {error.start} of the message: "
                      "it cannot be written as UTF-8",
                      value=repr(error.object[error.start])) from error
    except (TypeError, ValueError) as error:
        raise BadMessage(f"'{message['type']}' cannot be written as JSON: {error}") from error
    if len(frame) > FRAME_BYTES_MAX:
        raise BadMessage(f"'{message['type']}' takes {len(frame)} bytes, at most "
                         f"{FRAME_BYTES_MAX} fit: put long texts into a pool",
                         value=str(len(frame)), limit=str(FRAME_BYTES_MAX))
    return frame


def decode(frame: bytes) -> Message:
    """The runtime's message. An error is read whatever its version, to hear what it says."""
    try:
        message = json.loads(frame)
    except ValueError as error:
        raise BadMessage(f"the runtime sent what is not JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadMessage("the runtime sent what is no message: an object with a 'type' is")
    if message.get("v") != VERSION and message["type"] != "error":
        raise ProtocolVersion(f"the runtime speaks version {message.get('v')} of the protocol, "
                              f"this client {VERSION}: install the client of the same release",
                              value=str(message.get("v")), limit=str(VERSION))
    return message


def is_last(message: Message, *, of_group: bool) -> bool:
    """Whether no more answers follow this one; a group goes on after a member's done or error."""
    if of_group:
        return message["type"] == "group_done" or (
            message["type"] == "error" and "member" not in message)
    return message["type"] not in ("progress", "token")


def expect(message: Message, *types: str) -> Message:
    """The message, if it is of one of these types; an error is raised as what it says."""
    if message["type"] == "error":
        raise error_of(message)
    if message["type"] not in types:
        raise BadMessage(f"the runtime answered with {message['type']!r} where "
                         f"{' or '.join(types)} was expected", value=message["type"])
    return message


def text_bytes(text: str | None, path: "str | os.PathLike[str] | None") -> bytes | None:
    """The text as UTF-8 if it has to travel as sealed memory, else None."""
    if text is not None and path is not None:
        raise TypeError("a pool takes a text or a path, not both")
    if text is None or len(text) <= TEXT_BYTES_MAX // 4:  # no character takes more than four
        return None
    data = text.encode()
    return data if len(data) > TEXT_BYTES_MAX else None


def seconds_to_wait(message: Message) -> float:
    """How long to wait for a runtime that lives but says nothing: past its own deadlines."""
    if message["type"] not in LONG:
        return ANSWER_S
    return float(message.get("deadline_seconds", DEADLINE_S)) + ANSWER_S


def _sampling(options: Mapping[str, Any]) -> Message:
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}: a generation takes "
                        + ", ".join(Options.__annotations__))
    fields: Message = {"max_tokens": 256, **options}
    if fields.get("seed") is not None:
        fields["seed"] = str(fields["seed"])
    if fields.get("stop") is not None:
        fields["stop"] = list(fields["stop"])
    fields["deadline_seconds"] = fields.pop("deadline", None)
    return fields


def generate(pool: Message, prompt: str | None, messages: "Sequence[Message] | None",
             options: Mapping[str, Any]) -> Message:
    """The request of one generation; `pool` holds the fields that name the pool."""
    if (prompt is None) == (messages is None):
        raise TypeError("a generation takes a prompt or messages, and not both")
    fields = _sampling(options)
    return request("generate", **pool, prompt=prompt,
                   messages=None if messages is None else list(messages), **fields)


def group_generate(pool: Message, members: "Iterable[str | Member]",
                   options: Mapping[str, Any]) -> Message:
    """The request of a group; a member that is a string is a prompt."""
    fields = _sampling(options)
    if "agent" in fields:
        raise TypeError("agents are named in the members of a group")
    return request("group_generate", **pool, members=[_member(one) for one in members], **fields)


def _member(member: "str | Member") -> Message:
    if isinstance(member, str):
        return {"prompt": member}
    fields = {"prompt": member.prompt, "messages": member.messages, "agent": member.agent,
              "seed": None if member.seed is None else str(member.seed)}
    return {name: value for name, value in fields.items() if value is not None}


class EventOrder:
    """Which events of the bus are news, older than the snapshot, or come after a gap."""

    def __init__(self, topics: Sequence[str]) -> None:
        unknown = set(topics) - TOPICS.keys()
        if unknown or not topics:
            raise ValueError(f"topics are some of {', '.join(TOPICS)}, not {list(topics)!r}")
        self._last = dict.fromkeys(topics, 0)

    def start(self, snapshot: Message) -> None:
        """Events up to this snapshot are in it."""
        for topic in self._last:
            self._last[topic] = int(snapshot[TOPICS[topic]])

    def take(self, topic: str, message: Message) -> bool | None:
        """True: it is the next one. False: it is in the snapshot. None: one before it was lost."""
        number = int(message["seq"])
        if number <= self._last[topic]:
            return False
        if number > self._last[topic] + 1:
            return None
        self._last[topic] = number
        return True


class Logprobs:
    """What the `token` messages of one generation say of its tokens."""

    def __init__(self) -> None:
        self._tokens: list[Message] = []

    def take(self, part: Message) -> None:
        if part["type"] == "token":
            self._tokens += part.get("logprobs", ())

    def answer(self, done: Message) -> Answer:
        """The answer, with all of them."""
        return read(Answer, {**done, "logprobs": self._tokens})


class GroupParts:
    """What has come for the members of a group."""

    def __init__(self, count: int) -> None:
        self.answers: list[Answer | PolykvError | None] = [None] * count
        self.agents: tuple[str, ...] = ()
        self._logprobs = [Logprobs() for _ in range(count)]

    def take(self, message: Message) -> None:
        if message["type"] == "group_started":
            self.agents = tuple(message["agents"])
        elif message["type"] in ("token", "done", "error"):
            member = message.get("member")
            if not isinstance(member, int) or not 0 <= member < len(self.answers):
                raise BadMessage(f"the runtime answered for member {member} of a group of "
                                 f"{len(self.answers)}", value=str(member))
            if message["type"] == "token":
                self._logprobs[member].take(message)
                return
            failed = message["type"] == "error"
            self.answers[member] = (error_of(message) if failed
                                    else self._logprobs[member].answer(message))

    def result(self, done: Message) -> GroupAnswer:
        """The group's end, once every member has had one."""
        answers = tuple(one for one in self.answers if one is not None)
        if len(answers) < len(self.answers):
            raise BadMessage(f"the group ended with {len(answers)} of {len(self.answers)} answers")
        return GroupAnswer(pool=done["pool"], version=done["version"], agents=self.agents,
                           answers=answers, finished=done["finished"], failed=done["failed"],
                           model=done.get("model", ""), request=done.get("id", ""))
