#!/usr/bin/env python3
"""The same question to every file: a pool a file, and a table of the answers.

    map_files.py "Which licence is this?" /usr/share/common-licenses/*

The files are prefilled one after the other while agents answer for those that are ready; each pool
is dropped as soon as its answer is there. A file that fails has its error in the table, and the
exit code is 1. Needs a running `polykv up`.
"""

import argparse
import asyncio
import json
import os
import pathlib
import sys

import polykv


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("files", nargs="+", type=pathlib.Path, help="UTF-8 text files")
    parser.add_argument("--agents", type=int, default=2, help="how many answer at a time (2)")
    parser.add_argument("--max-tokens", type=int, default=60, help="longest answer (60)")
    parser.add_argument("--json", action="store_true", help="a JSON object a line, not a table")
    return parser.parse_args()


class Mapper:
    def __init__(self, client: polykv.AsyncClient, wanted: argparse.Namespace) -> None:
        self.client, self.wanted = client, wanted
        self.agents: list[str] = []
        self.writing = asyncio.Lock()  # one file at a time is prefilled anyway
        self.room = asyncio.Semaphore(wanted.agents + 1)  # as many pools at a time, no more

    async def row(self, number: int, path: pathlib.Path) -> dict[str, object]:
        try:
            async with self.room:
                async with self.writing:
                    pool = await self.client.create_pool(
                        f"map-{os.getpid()}-{number}", text=path.read_text(),
                        reserve=self.wanted.max_tokens + 100)
                try:
                    return await self.ask(pool, path)
                finally:
                    await pool.drop()
        except (polykv.PolykvError, OSError, UnicodeError) as error:
            return {"file": str(path), "error": str(error)}

    async def ask(self, pool: polykv.AsyncPool, path: pathlib.Path) -> dict[str, object]:
        async with self.writing:
            self.agents = self.agents or await pool.start_agents(self.wanted.agents)
        answer = await pool.ask(self.wanted.question, max_tokens=self.wanted.max_tokens)
        return {"file": str(path), "pool": pool.name, "version": answer.version,
                "tokens": pool.ready.tokens if pool.ready else 0, "agent": answer.agent,
                "text": " ".join(answer.text.split())}


async def run(wanted: argparse.Namespace) -> list[dict[str, object]]:
    async with await polykv.aconnect() as client:
        mapper = Mapper(client, wanted)
        rows = await asyncio.gather(*(mapper.row(*one) for one in enumerate(wanted.files)))
        for agent in mapper.agents:
            await client.stop_agents(agent)
        return rows


if __name__ == "__main__":
    table = asyncio.run(run(options := parse()))
    for one in table:
        said = one.get("text", one.get("error"))
        print(json.dumps(one) if options.json else
              f"{one['file']!s:40}  {one.get('tokens', '-')!s:>6}  {said}")
    sys.exit(any("error" in one for one in table))
