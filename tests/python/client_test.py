"""The Python client against a scripted runtime: what it sends, and what it makes of the answers."""

import fcntl
import os
import tempfile
import unittest
import unittest.mock

from client_case import Case, polykv


class Connecting(Case):

    def test_says_hello_and_learns_who_is_there(self):
        client = self.connect()
        self.assertEqual(self.fake.requests("hello")[0]["client"], "python")
        self.assertEqual((client.pid, client.version, client.runtime), (10, "0.1.0", self.dir))

    def test_without_a_runtime_says_what_to_do(self):
        with tempfile.TemporaryDirectory() as nobody:
            error = self.expect(polykv.NotRunning, polykv.connect, nobody)
        self.assertIn("polykv up", str(error))
        self.assertEqual(error.value, f"{nobody}/ctl")

    def test_a_socket_file_that_a_dead_runtime_left_is_no_runtime(self):
        self.fake.die()
        self.expect(polykv.NotRunning, polykv.connect, self.dir)

    def test_a_path_past_the_kernels_limit_names_both_numbers(self):
        error = self.expect(polykv.PathTooLong, polykv.connect, "/tmp/" + "x" * 110)
        self.assertIn("119", str(error))
        self.assertEqual(error.limit, "107")

    def test_a_runtime_of_another_version_is_refused_by_either_side(self):
        self.script["hello"] = lambda _: [("welcome", {"v": 2})]
        error = self.expect(polykv.ProtocolVersion, polykv.connect, self.dir)
        self.assertEqual((error.value, error.limit), ("2", "1"))
        self.script["hello"] = lambda _: [("error", {"v": 2, "code": "protocol_version",
                                                     "message": "version 2 is spoken here"})]
        error = self.expect(polykv.ProtocolVersion, polykv.connect, self.dir)
        self.assertEqual(str(error), "version 2 is spoken here")

    def test_a_runtime_that_says_nothing_times_out(self):
        self.script["hello"] = lambda _: []
        error = self.expect(polykv.TimedOut, polykv.connect, self.dir, timeout=0.05)
        self.assertEqual(error.limit, "0.05 s")

    def test_the_default_is_the_programs(self):
        for set_to, wanted in (({"POLYKV_RUNTIME": "/a", "XDG_RUNTIME_DIR": "/b"}, "/a"),
                               ({"XDG_RUNTIME_DIR": "/b"}, "/b/polykv"),
                               ({}, f"/tmp/polykv-{os.geteuid()}")):
            with self.subTest(set_to=set_to), unittest.mock.patch.dict(os.environ, set_to):
                for name in {"POLYKV_RUNTIME", "XDG_RUNTIME_DIR"} - set_to.keys():
                    os.environ.pop(name, None)
                self.assertEqual(polykv._protocol.default_runtime(), wanted)


class Requests(Case):
    """Each method sends what the protocol says and gives back what was answered."""

    def setUp(self):
        super().setUp()
        self.client = self.connect()
        self.main = self.client.pool("main", "small")

    def sent(self):
        request = dict(self.fake.seen[-1])
        for name in ("client_", "id", "v"):
            request.pop(name, None)
        return request

    def test_ask(self):
        self.script["generate"] = lambda _: [("token", {}), ("done", {"text": "So."})]
        answer = self.main.ask("Why?", max_tokens=9, seed=2**64 - 1, stop=("\n",), deadline=5,
                               at_least=3)
        self.assertEqual(self.sent(), {
            "type": "generate", "pool": "main", "model": "small", "prompt": "Why?",
            "max_tokens": 9, "seed": "18446744073709551615", "stop": ["\n"],
            "deadline_seconds": 5, "at_least": 3})
        self.assertEqual((answer.text, answer.token_ids, answer.version), ("So.", (5, 6, 7), 1))
        self.assertEqual(answer.request, self.fake.seen[-1]["id"])

    def test_logprobs_of_all_tokens_are_in_the_answer(self):
        other = {"token": 9, "text": " a", "logprob": -0.25}
        first = {"token": 5, "text": "\ufffd", "bytes": [195], "logprob": -0.5, "top": [other]}
        second = {"token": 6, "text": "b", "logprob": 0}
        self.script["generate"] = lambda _: [
            ("token", {"text": "", "logprobs": [first]}), ("token", {"logprobs": [second]}),
            ("token", {"logprobs": None}), ("done", {"logprobs": None})]
        wanted = (polykv.TokenLogprob(5, "\ufffd", -0.5, (195,),
                                      (polykv.TokenChoice(9, " a", -0.25),)),
                  polykv.TokenLogprob(6, "b", 0))
        answer = self.main.ask("Why?", logprobs=True, top_logprobs=1)
        self.assertEqual((self.sent()["logprobs"], self.sent()["top_logprobs"]), (True, 1))
        self.assertEqual(answer.logprobs, wanted)
        self.assertEqual(self.main.stream("Why?", logprobs=True).finish().logprobs, wanted)

    def test_ask_takes_messages_and_refuses_what_is_no_generation(self):
        self.script["generate"] = lambda _: [("done", {})]
        said = [{"role": "user", "content": "Why?"}]
        self.client.pool().ask(messages=said)
        self.assertEqual(self.sent(), {"type": "generate", "pool": "main", "messages": said,
                                       "max_tokens": 256})
        self.expect(TypeError, self.main.ask)
        self.expect(TypeError, self.main.ask, "Why?", messages=said)
        self.assertIn("'heat'", str(self.expect(TypeError, self.main.ask, "Why?", heat=1)))

    def test_pools(self):
        self.script["pool_create"] = self.script["append"] = self.script["pool_fork"] = (
            lambda _: [("progress", {}), ("pool_ready", {})])
        self.script["pool_drop"] = lambda _: [("pool_dropped", {"leases": 2})]
        self.script["pool_pin"] = self.script["pool_unpin"] = lambda _: [("ok", {"version": 4})]
        heard = []
        pool = self.client.create_pool("p", text="Text.", role="user", reserve=5, ttl=60,
                                       on_progress=heard.append)
        self.assertEqual(self.sent(), {"type": "pool_create", "pool": "p", "codec": "k4v4",
                                       "text": "Text.", "role": "user", "reserve": 5,
                                       "ttl_seconds": 60})
        self.assertEqual((pool.ready.tokens, heard), (9, [polykv.Progress("prefill", 1, 2, 9.5)]))
        self.main.append(path="some file", deadline=2)
        self.assertEqual(self.sent(), {"type": "append", "pool": "main", "model": "small",
                                       "path": os.path.abspath("some file"),
                                       "deadline_seconds": 2})
        self.expect(TypeError, self.main.append, "text", path="file")
        fork = self.main.fork("q", version=3)
        self.assertEqual((fork.name, fork.model, self.sent()["to"]), ("q", "small", "q"))
        self.assertEqual((self.main.drop().leases, self.main.pin(ttl=9), self.main.unpin(4)),
                         (2, 4, 4))

    def test_a_text_beyond_a_message_goes_as_sealed_memory(self):
        self.script["append"] = lambda _: [("progress", {}), ("pool_ready", {})]
        text = "ä" * 450_001  # 900,002 bytes
        self.assertEqual(self.main.append(text).version, 1)
        self.assertEqual(self.fake.memories, [text.encode()])
        self.assertEqual(self.fake.seals, [fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK
                                           | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE])
        self.assertNotIn("text", self.sent())
        self.main.append(text[:-1])
        self.assertEqual(len(self.fake.memories), 1)
        self.assertEqual(len(self.sent()["text"]), 450_000)

    def test_a_prompt_that_no_message_holds_is_refused_before_it_costs_the_connection(self):
        error = self.expect(polykv.BadMessage, self.main.ask, "x" * 2**20)
        self.assertEqual(error.limit, "1048576")
        self.expect(polykv.BadText, self.main.ask, "\ud800")
        self.assertEqual(self.client.status().pid, 10)

    def test_agents(self):
        self.script["agents_start"] = lambda _: [("ok", {"agents": ["a01", "a02"]})]
        self.script["agents_stop"] = lambda _: [("ok", {})]
        self.assertEqual(self.main.start_agents(2, version=1), ["a01", "a02"])
        self.client.stop_agents("a02")
        self.assertEqual(self.sent(), {"type": "agents_stop", "agent": "a02"})

    def test_commit_takes_an_answer_or_its_request(self):
        self.script["generate"] = lambda _: [("done", {})]
        self.script["commit"] = lambda _: [("committed", {})]
        answer = self.main.ask("Why?")
        done = self.client.commit(answer)
        self.assertEqual(self.sent(), {"type": "commit", "request": answer.request})
        self.assertEqual((done.version, done.inode, done.prefill_tokens), (2, 2**63, 0))
        self.client.commit("r9", deadline=4)
        self.assertEqual(self.sent()["request"], "r9")

    def test_status_is_typed_and_finds_by_name(self):
        snapshot = self.client.status()
        self.assertEqual(snapshot.pool("main").versions[0].pinned, True)
        self.assertEqual(snapshot.agent("a01").pid, 12)
        self.assertIsNone(snapshot.pool("main", "other"))
        self.assertIsNone(snapshot.agent("a02"))
        self.assertEqual(self.main.status().ttl_seconds, 60)

    def test_errors_are_exceptions_by_code(self):
        for code, kind in (("conflict", polykv.Conflict), ("version_gone", polykv.VersionGone),
                           ("agent_lost", polykv.AgentLost), ("io", polykv.PolykvError)):
            self.script["pool_drop"] = lambda _, code=code: [("error", {"code": code})]
            error = self.expect(kind, self.main.drop)
            self.assertEqual((error.code, error.value, error.agent, error.pid, type(error)),
                             (code, "a09", "a01", 12, kind))

    def test_an_answer_without_a_field_names_it(self):
        self.script["commit"] = lambda _: [("committed", {"inode": None})]
        self.assertEqual(self.expect(polykv.BadMessage, self.client.commit, "r1").value, "inode")
        self.script["commit"] = lambda _: [("ok", {})]
        self.assertIn("committed", str(self.expect(polykv.BadMessage, self.client.commit, "r1")))


class Streams(Case):

    def setUp(self):
        super().setUp()
        self.client = self.connect()
        self.main = self.client.pool("main")

    def test_gives_pieces_and_then_the_answer(self):
        self.script["generate"] = lambda _: [("token", {"text": "Be"}), ("token", {"text": "c."}),
                                             ("done", {"text": "Bec."})]
        stream = self.main.stream("Why?")
        self.assertEqual(list(stream), ["Be", "c."])
        self.assertEqual(stream.answer.text, "Bec.")
        self.assertEqual(list(stream), [])

    def test_has_no_answer_before_its_end(self):
        self.script["generate"] = lambda _: [("token", {})]
        stream = self.main.stream("Why?")
        next(stream)
        self.expect(RuntimeError, lambda: stream.answer)

    def test_cancelled_it_ends_with_the_text_so_far(self):
        self.script["generate"] = lambda _: [("token", {"text": "Be"})]
        self.script["cancel"] = lambda request: [
            ("done", {"id": request["request"], "reason": "cancelled", "text": "Be"}), ("ok", {})]
        stream = self.main.stream("Why?")
        next(stream)
        stream.cancel()
        answer = stream.finish()
        self.assertEqual((answer.reason, answer.text), ("cancelled", "Be"))
        stream.cancel()  # it has ended: nothing is sent
        self.assertEqual(len(self.fake.requests("cancel")), 1)

    def test_left_early_as_a_context_it_is_cancelled(self):
        self.script["generate"] = lambda _: [("token", {})] * 3
        with self.main.stream("Why?") as stream:
            next(stream)
        self.client.status()  # answered after the cancel was seen
        self.assertEqual(self.fake.requests("cancel")[0]["request"], stream.request)

    def test_an_error_on_the_way_is_raised_and_kept(self):
        self.script["generate"] = lambda _: [("token", {}), ("error", {"code": "agent_lost"})]
        stream = self.main.stream("Why?")
        self.expect(polykv.AgentLost, list, stream)
        self.expect(polykv.AgentLost, lambda: stream.answer)

    def test_groups(self):
        self.script["group_generate"] = lambda _: [
            ("group_started", {"agents": ["a01", "a02"]}), ("token", {"member": 1, "text": "B"}),
            ("done", {"member": 1}), ("error", {"member": 0, "code": "agent_lost"}),
            ("group_done", {"finished": 1, "failed": 1})]
        said, started = [], []
        group = self.main.group(["Why?", polykv.Member(prompt="How?", agent="a02", seed=3)],
                                on_text=lambda *part: said.append(part), on_start=started.append)
        self.assertEqual(self.fake.requests("group_generate")[0]["members"],
                         [{"prompt": "Why?"}, {"prompt": "How?", "agent": "a02", "seed": "3"}])
        self.assertIsInstance(group.answers[0], polykv.AgentLost)
        self.assertEqual((group.answers[1].member, group.failed, said), (1, 1, [(1, "B")]))
        self.assertEqual(started[0].agents, group.agents)

    def test_a_group_that_does_not_start_is_one_error(self):
        self.script["group_generate"] = lambda _: [
            ("error", {"code": "version_gone", "member": None})]
        self.expect(polykv.VersionGone, self.main.group, ["Why?"])


class Conversations(Case):

    def setUp(self):
        super().setUp()
        self.script["generate"] = lambda _: [("token", {}), ("done", {"agent": "a07"})]
        self.script["commit"] = lambda _: [("committed", {"version": 2})]
        self.talk = self.connect().pool("main").conversation()

    def test_follow_ups_go_to_the_same_agent_and_version_with_all_that_was_said(self):
        heard = []
        self.talk.say("Why?", on_text=heard.append)
        self.talk.say("And how?", max_tokens=5)
        second = self.fake.requests("generate")[1]
        self.assertEqual([m["content"] for m in second["messages"]],
                         ["Why?", "Because.", "And how?"])
        self.assertEqual((second["agent"], second["version"], heard), ("a07", 1, ["Bec"]))

    def test_commit_makes_it_part_of_the_pool(self):
        self.expect(RuntimeError, self.talk.commit)
        self.talk.say("Why?")
        request = self.talk.last.request
        self.assertEqual(self.talk.commit().version, 2)
        self.assertEqual(self.fake.requests("commit")[0]["request"], request)
        self.assertEqual((self.talk.messages, self.talk.version), ([], 2))

    def test_a_turn_that_fails_leaves_no_trace_and_a_lost_agent_is_let_go(self):
        self.talk.say("Why?")
        self.script["generate"] = lambda _: [("error", {"code": "agent_lost"})]
        self.expect(polykv.AgentLost, self.talk.say, "And?")
        self.assertEqual((len(self.talk.messages), self.talk.agent), (2, None))


if __name__ == "__main__":
    unittest.main()
