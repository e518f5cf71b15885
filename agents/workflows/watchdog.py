#!/usr/bin/env python3
"""Asks a question and does not put up with a slow agent: it is killed, and a new one takes over.

    watchdog.py "May I charge a fee for a copy?" --patience 10

An agent that says nothing for `patience` seconds is killed; a new process attaches to the same
version, without a prefill, and says the same again. The version is pinned meanwhile, so that an
append does not take it away. Needs a running `polykv up` with a pool.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys

import polykv


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--pool", default="main", help="(main)")
    parser.add_argument("--pool-version", type=int, help="(the current one)")
    parser.add_argument("--agent", help="who is asked first (one that is started for this)")
    parser.add_argument("--patience", type=float, default=30, help="seconds without a word (30)")
    parser.add_argument("--tries", type=int, default=3, help="agents to try (3)")
    parser.add_argument("--max-tokens", type=int, default=200, help="longest answer (200)")
    parser.add_argument("--json", action="store_true", help="print what happened for machines")
    return parser.parse_args()


async def kill(client: polykv.AsyncClient, agent: str) -> int:
    """Ends an agent that may not even hear it. It is said first, so that nobody starts it again."""
    status = (await client.status()).agent(agent)
    assert status is not None, f"there is no agent {agent}"
    await client.stop_agents(agent)
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.kill(status.pid, signal.SIGKILL)
    return status.pid


async def watch(pool: polykv.AsyncPool, agent: str | None, wanted: argparse.Namespace) -> None:
    version, killed = await pool.pin(wanted.pool_version), list[int]()
    try:
        while True:
            agent = agent or (await pool.start_agents(1, version=version))[0]
            try:
                async with await pool.stream(wanted.question, agent=agent, version=version,
                                             max_tokens=wanted.max_tokens) as stream:
                    while await asyncio.wait_for(anext(stream, None), wanted.patience) is not None:
                        pass
                break
            except (TimeoutError, polykv.AgentLost) as error:
                print(f"agent {agent} is killed: {error or 'not a word'}", file=sys.stderr)
                killed, agent = [*killed, await kill(pool.client, agent)], None
                if len(killed) == wanted.tries:
                    raise
    finally:
        await pool.unpin(version)
    answer = dataclasses.asdict(stream.answer)
    print(json.dumps({"killed": killed, **answer}) if wanted.json else answer["text"])
    if agent != wanted.agent:
        await pool.client.stop_agents(agent)


async def main(wanted: argparse.Namespace) -> None:
    async with await polykv.aconnect() as client:
        await watch(client.pool(wanted.pool), wanted.agent, wanted)


if __name__ == "__main__":
    asyncio.run(main(parse()))
