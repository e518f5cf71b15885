"""What can go wrong, as exceptions: a class for each code that a program may want to catch.

All are PolykvError. `code` is the stable name (docs/protocol.md, the README's exit codes), `value`
the offending value and `limit` what it broke; both are empty where there is none.
"""

from typing import Any, ClassVar


class PolykvError(Exception):
    """A request was refused or failed; `str()` of it is a sentence for a person."""

    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str = "", value: str = "", limit: str = "",
                 request: str = "", agent: str = "", pid: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.value = value
        self.limit = limit
        self.request = request  # the id of the request that failed
        self.agent = agent  # the agent that failed, and its process
        self.pid = pid


class UsageError(PolykvError):
    """The request asks for what cannot be: an agent or a name that is not there, or is taken."""
    default_code = "usage"


class BadMessage(PolykvError):
    """A field is unknown, missing, of the wrong type or out of range."""
    default_code = "bad_message"


class BadText(PolykvError):
    """The text is empty, missing, unreadable or not UTF-8."""
    default_code = "bad_text"


class ContextTooLong(PolykvError):
    """Context, prompt and longest answer do not fit the model's positions."""
    default_code = "context_too_long"


class UnknownCodec(PolykvError):
    """There is no such codec."""
    default_code = "unknown_codec"


class BadAgentCount(PolykvError):
    """No agents, or more than one runtime can hold."""
    default_code = "bad_agent_count"


class PathTooLong(PolykvError):
    """The runtime directory's path is too long for a socket's address."""
    default_code = "path_too_long"


class MemoryLimit(PolykvError):
    """A budget, cgroup, file size limit or the free memory does not suffice; says who holds it."""
    default_code = "memory_limit"


class AgentLost(PolykvError):
    """The agent ended before it had answered; `agent` and `pid` say which."""
    default_code = "agent_lost"


class WriterLost(PolykvError):
    """The writer ended before the text was prefilled."""
    default_code = "writer_lost"


class NotRunning(PolykvError):
    """No runtime answers: it was not started, has ended, or was killed."""
    default_code = "not_running"


class TimedOut(PolykvError):
    """A deadline passed."""
    default_code = "timed_out"


class VersionGone(PolykvError):
    """The model, pool or version does not exist, or not any more."""
    default_code = "version_gone"


class Cancelled(PolykvError):
    """The request was cancelled before it had an answer."""
    default_code = "cancelled"


class Conflict(PolykvError):
    """Another request changed the same thing first."""
    default_code = "conflict"


class ProtocolVersion(PolykvError):
    """Client and runtime speak different versions of the protocol."""
    default_code = "protocol_version"


class Forbidden(PolykvError):
    """The runtime belongs to another user."""
    default_code = "forbidden"


_CLASSES = {kind.default_code: kind for kind in PolykvError.__subclasses__()}


def error_of(message: dict[str, Any]) -> PolykvError:
    """The exception that an `error` message stands for."""
    code = str(message.get("code", "internal"))
    return _CLASSES.get(code, PolykvError)(
        str(message.get("message", "")), code=code, value=str(message.get("value", "")),
        limit=str(message.get("limit", "")), request=str(message.get("id", "")),
        agent=str(message.get("agent", "")), pid=int(message.get("pid", 0)))
