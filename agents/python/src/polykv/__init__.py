"""Client of a polykv runtime: `connect` for blocking programs, `aconnect` for asyncio ones.

    with polykv.connect() as client:
        print(client.pool("main").ask("What is forbidden?").text)
"""

from ._protocol import Options
from .aio import AsyncClient, AsyncConversation, AsyncPool, AsyncStream
from .errors import (AgentLost, BadAgentCount, BadMessage, BadText, Cancelled, Conflict,
                     ContextTooLong, Forbidden, MemoryLimit, NotRunning, PathTooLong, PolykvError,
                     ProtocolVersion, TimedOut, UnknownCodec, UsageError, VersionGone, WriterLost)
from .sync import Client, Conversation, Pool, Stream
from .values import (AgentBorn, AgentEnded, AgentStatus, Answer, Committed, Event, GroupAnswer,
                     GroupStarted, Member, ModelStatus, PoolDropped, PoolReady, PoolStatus,
                     Progress, Snapshot, TokenChoice, TokenLogprob, TokenText, VersionStatus)

__version__ = "0.1.0"

connect = Client.connect
aconnect = AsyncClient.connect

__all__ = [
    "AgentBorn", "AgentEnded", "AgentLost", "AgentStatus", "Answer", "AsyncClient",
    "AsyncConversation", "AsyncPool", "AsyncStream", "BadAgentCount", "BadMessage", "BadText",
    "Cancelled", "Client", "Committed", "Conflict", "ContextTooLong", "Conversation", "Event",
    "Forbidden", "GroupAnswer", "GroupStarted", "Member", "MemoryLimit", "ModelStatus",
    "NotRunning", "Options", "PathTooLong", "PolykvError", "Pool", "PoolDropped", "PoolReady",
    "PoolStatus", "Progress", "ProtocolVersion", "Snapshot", "Stream", "TimedOut", "TokenChoice",
    "TokenLogprob", "TokenText", "UnknownCodec", "UsageError", "VersionGone", "VersionStatus",
    "WriterLost", "aconnect", "connect",
]
