#!/usr/bin/env python3
"""One document, many questions, and a last agent that merges the answers.

    fan_out.py report.txt "What was decided?" "Who objects?" --merge "Summarise this for the board."

The document is prefilled once; every question goes to an agent process of its own, all on the same
version, and the last agent reads the document and all answers. Needs a running `polykv up`.
"""

import argparse
import dataclasses
import json
import os
import pathlib

import polykv


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=pathlib.Path, help="a UTF-8 text file")
    parser.add_argument("questions", nargs="+", help="one agent each")
    parser.add_argument("--merge", default="Merge these answers into one, without repetition.",
                        help="what the last agent is asked to do")
    parser.add_argument("--max-tokens", type=int, default=200, help="longest answer (200)")
    parser.add_argument("--json", action="store_true", help="print what happened for machines")
    return parser.parse_args()


def merging_prompt(task: str, questions: list[str], answers: list[polykv.Answer]) -> str:
    parts = [f"Question: {question}\nAnswer: {answer.text.strip()}"
             for question, answer in zip(questions, answers)]
    return "\n\n".join(["Several readers answered questions about the document.", *parts, task])


def fan_out(pool: polykv.Pool, questions: list[str], merge: str,
            max_tokens: int) -> list[polykv.Answer]:
    """The answers, and after them what the last agent made of them."""
    *readers, last = agents = pool.start_agents(len(questions) + 1)
    try:
        members = [polykv.Member(prompt=question, agent=reader)
                   for question, reader in zip(questions, readers)]
        group = pool.group(members, max_tokens=max_tokens)
        answers = []
        for one in group.answers:
            if isinstance(one, polykv.PolykvError):
                raise one  # merging the others would hide that one is missing
            answers.append(one)
        prompt = merging_prompt(merge, questions, answers)
        return [*answers, pool.ask(prompt, agent=last, version=group.version,
                                   max_tokens=max_tokens)]
    finally:
        for agent in agents:
            pool.client.stop_agents(agent)


def main() -> None:
    wanted = parse()
    with polykv.connect() as client:
        pool = client.create_pool(f"fan-out-{os.getpid()}", text=wanted.document.read_text())
        try:
            answers = fan_out(pool, wanted.questions, wanted.merge, wanted.max_tokens)
        finally:
            pool.drop()
    if wanted.json:
        print(json.dumps([dataclasses.asdict(answer) for answer in answers]))
        return
    for question, answer in zip([*wanted.questions, wanted.merge], answers):
        print(f"{question}\n   {answer.text.strip()}\n")


if __name__ == "__main__":
    main()
