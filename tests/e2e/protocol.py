"""The running server and docs/protocol.schema.json give the same verdict on every message."""

import json
import os
import subprocess
import sys
import unittest

import harness
import zmq

sys.path[:0] = [str(harness.SOURCE / "tests/python"), str(harness.SOURCE / "agents/python/src")]

import golden  # noqa: E402
import jsonschema  # noqa: E402
import mutations  # noqa: E402
import polykv  # noqa: E402
import tap  # noqa: E402

SCHEMA = json.loads((harness.SOURCE / "docs/protocol.schema.json").read_text())
DEFINITIONS = SCHEMA["$defs"]
WHOLE = jsonschema.Draft202012Validator(SCHEMA)
BY_MEMORY = {"score", "tokenize", "prefill"}  # these come over `fd` only


def validate(message):
    """By its type's own part of the schema: its complaint names the field."""
    part = {"$ref": f"#/$defs/{message['type']}", "$defs": DEFINITIONS}
    jsonschema.Draft202012Validator(part).validate(message)


class Verdicts(harness.Case):

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=600), "--agents", 1)
        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        self.control = context.socket(zmq.DEALER)
        self.control.setsockopt(zmq.RCVTIMEO, harness.DEADLINE_S * 1000)
        self.control.connect(f"ipc://{self.runtime}/ctl")

    def answer(self, message):
        self.control.send_json(message)
        answer = json.loads(self.control.recv())
        validate(answer)
        return answer

    def test_every_broken_request_is_refused_by_both_and_the_field_is_named(self):
        count = 0
        for name in golden.REQUESTS:
            message = golden.messages()[name]
            validator = jsonschema.Draft202012Validator(
                {"$ref": f"#/$defs/{name}", "$defs": DEFINITIONS})
            for how, changed, variant in mutations.broken(DEFINITIONS, message):
                what = f"{name}: {how}: {changed}"
                self.assertFalse(validator.is_valid(variant), what)
                answer = self.answer(variant)
                self.assertEqual(answer["type"], "error", what)
                wanted = "protocol_version" if changed == ["v"] and "v" in variant else None
                self.assertEqual(answer["code"], wanted or "bad_message", what)
                named = [field for field in changed if field in answer["message"]]
                self.assertTrue(named, f"{what}: {answer['message']}")
                count += 1
        self.assertGreater(count, 1000)

    def test_every_golden_request_is_taken_by_both(self):
        for name in golden.REQUESTS.keys() - BY_MEMORY - {"shutdown"}:
            message = golden.message(name, id=f"golden-{name}")
            validate(message)
            answer = self.answer(message)
            while answer["type"] in ("progress", "token") or answer["id"] != message["id"]:
                answer = json.loads(self.control.recv())
            self.assertNotEqual(answer.get("code"), "bad_message", f"{name}: {answer}")
        self.assertEqual(self.answer(golden.message("shutdown", id="end"))["type"], "ok")

    def test_an_unknown_version_is_told_which_one_is_spoken(self):
        answer = self.answer({"v": 2, "type": "hail", "id": "x", "client": 1})
        self.assertEqual((answer["code"], answer["id"]), ("protocol_version", "x"))
        self.assertIn("1", answer["limit"])


class Recorded(harness.Case):
    """What really goes over the sockets, in both directions, is what the schema says."""

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=1000), "--agents", 1)
        (self.dir / "tap").mkdir()
        self.tap = tap.Tap(self.dir / "tap", self.runtime)
        self.addCleanup(self.tap.close)

    def agent_by_hand(self):
        process = subprocess.Popen([harness.PROGRAMS / "polykv-agent", "--runtime",
                                    self.dir / "tap", "--agent", "hand", "--pool", "main"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def test_messages_of_a_client_and_an_agent(self):
        self.agent_by_hand()
        with polykv.connect(self.dir / "tap") as client:
            events = client.events("pool", "agent", "token", timeout=harness.DEADLINE_S)
            next(events)
            harness.await_true("the agent", lambda: (
                (agent := client.status().agent("hand")) and agent.state == "idle"))
            self.drive(client)
            while not isinstance(next(events), polykv.AgentEnded):
                pass
        for way, message in self.tap.seen:
            with self.subTest(way=way, type=message["type"]):
                validate(message)
                WHOLE.validate(message)
        self.assertGreaterEqual(self.tap.types(">"), {
            "hello", "status", "generate", "append", "pool_create", "pool_fork", "pool_pin",
            "pool_unpin", "pool_drop", "cancel", "agents_start", "agents_stop", "attach",
            "agent_hello", "token", "done", "group_generate", "commit", "prepared", "turn"})
        self.assertGreaterEqual(self.tap.types("<"), {
            "welcome", "snapshot", "token", "done", "pool_ready", "pool_dropped", "progress", "ok",
            "error", "granted", "start", "cancel", "group_started", "group_done", "prepare",
            "encode", "committed", "agent_born", "agent_ended"})

    def drive(self, client):
        pool = client.pool()
        answer = pool.ask("What is this?", agent="hand", max_tokens=4, seed=1, temperature=0.5)
        self.assertEqual(answer.tokens, 4)
        self.assertEqual(client.commit(answer).version, 2)
        pool.append("More. " * 20)
        group = pool.group([polykv.Member(prompt="What?", agent="hand"), "Why?"], max_tokens=2)
        self.assertEqual((group.version, group.finished), (3, 2))
        pool.ask(messages=[{"role": "user", "content": "What?"}], agent="hand", max_tokens=2)
        with pool.stream("Tell all.", agent="hand", max_tokens=500, ignore_eos=True) as stream:
            next(stream)
            stream.cancel()
            stream.finish()
        with self.assertRaises(polykv.ContextTooLong):
            client.create_pool("long", text="word " * 180_001)
        fork = pool.fork("other")
        fork.unpin(fork.pin())
        fork.drop()
        client.create_pool("small", text="A small text.").drop()
        client.stop_agents(pool.start_agents(1)[0])


if __name__ == "__main__":
    unittest.main()
