#!/usr/bin/env python3
"""Two agents debate a document in turns; every finished turn becomes part of the shared pool.

    debate.py licence.txt "May a company sell a changed copy?" --rounds 2

A turn is committed, not prefilled: the memory that the speaker filled while it spoke is the next
version, and the other agent answers on exactly that. Needs a running `polykv up`.
"""

import argparse
import dataclasses
import json
import os
import pathlib

import polykv

SIDES = ("in favour", "against")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=pathlib.Path, help="a UTF-8 text file")
    parser.add_argument("question", help="what they debate")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side (2)")
    parser.add_argument("--max-tokens", type=int, default=120, help="longest turn (120)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy (0)")
    parser.add_argument("--json", action="store_true", help="print what happened for machines")
    return parser.parse_args()


def take_turn(pool: polykv.Pool, answer: polykv.Answer, prompt: str) -> tuple[int, int]:
    """Makes a finished turn part of the pool: the new version, and the tokens prefilled for it."""
    try:
        made = pool.client.commit(answer)
        return made.version, made.prefill_tokens
    except polykv.Conflict:  # somebody else added to the pool meanwhile: say it after that
        ready = pool.append(f"{prompt}\n\n{answer.text}", role="user")
        return ready.version, ready.prefill_tokens


def debate(pool: polykv.Pool, agents: list[str], wanted: argparse.Namespace) -> None:
    version = 1
    for number in range(2 * wanted.rounds):
        side = SIDES[number % 2]
        move = "Reply to what was said" if number else "Open the debate"
        prompt = f"You argue {side}: {wanted.question} {move}, in a few sentences."
        answer = pool.ask(prompt, agent=agents[number % 2], version=version,
                          max_tokens=wanted.max_tokens, temperature=wanted.temperature)
        version, prefilled = take_turn(pool, answer, prompt)
        if wanted.json:
            print(json.dumps({"made": version, "prefill_tokens": prefilled, "prompt": prompt,
                              **dataclasses.asdict(answer)}), flush=True)
        else:
            print(f"[{side}, version {version}]\n{answer.text.strip()}\n", flush=True)


def main() -> None:
    wanted = parse()
    with polykv.connect() as client:
        pool = client.create_pool(f"debate-{os.getpid()}", text=wanted.document.read_text())
        agents = []
        try:
            agents = pool.start_agents(len(SIDES))
            debate(pool, agents, wanted)
        finally:
            for agent in agents:
                client.stop_agents(agent)
            pool.drop()


if __name__ == "__main__":
    main()
