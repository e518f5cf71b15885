#!/usr/bin/env python3
"""The protocol without the client: ZeroMQ, JSON, and one question. `raw_zmq.py QUESTION [POOL]`"""
import json
import os
import sys

import zmq

RUNTIME = os.environ.get("POLYKV_RUNTIME") or f"/tmp/polykv-{os.getuid()}"


def main() -> int:
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    context = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)
    control = context.socket(zmq.DEALER)
    control.setsockopt(zmq.IDENTITY, b"raw-%d" % os.getpid())  # unique, so that answers find us
    control.setsockopt(zmq.RCVTIMEO, 60_000)  # ms without any word
    control.connect(f"ipc://{RUNTIME}/ctl")
    control.send_json({"v": 1, "type": "generate", "id": "q1", "prompt": sys.argv[1],
                       "pool": sys.argv[2] if len(sys.argv) > 2 else "main", "max_tokens": 100})
    while (answer := json.loads(control.recv()))["type"] not in ("done", "error"):
        print(answer.get("text", ""), end="", flush=True)
    if answer["type"] == "error":
        print(f"{answer['code']}: {answer['message']}", file=sys.stderr)
        return 1
    print()
    print(f"[{answer['agent']}, version {answer['version']}, {answer['reason']}]", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
