"""The Python client against a scripted runtime: events, endings, threads and asyncio."""

import asyncio
import inspect
import os
import subprocess
import sys
import threading
import unittest
import unittest.mock

from client_case import CLIENT, WAIT_S, Case, polykv


class Events(Case):

    def test_start_with_a_snapshot_and_drop_what_is_in_it(self):
        events = self.connect().events()
        self.assertIsInstance(next(events), polykv.Snapshot)  # pool 1, agent 2
        self.fake.publish("pool", "pool_ready", seq="1")
        self.fake.publish("pool", "pool_dropped", seq="2")
        self.fake.publish("agent", "agent_ended", seq="3")
        self.assertEqual([type(next(events)) for _ in range(2)],
                         [polykv.PoolDropped, polykv.AgentEnded])

    def test_after_a_gap_there_is_a_new_snapshot(self):
        events = self.connect().events("pool")
        next(events)
        self.script["status"] = lambda _: [("snapshot", {"seq": "4"})]
        self.fake.publish("pool", "pool_ready", seq="3")  # 2 was lost
        self.fake.publish("pool", "pool_ready", seq="4")
        self.fake.publish("pool", "committed", seq="5")
        self.assertEqual(next(events).seq, 4)
        self.assertEqual(next(events).inode, 2**63)
        self.assertEqual(len(self.fake.requests("status")), 2)

    def test_are_only_those_that_were_asked_for(self):
        self.expect(ValueError, lambda: next(self.connect().events("weather")))
        events = self.connect().events("token")
        next(events)
        self.fake.publish("pool", "pool_ready", seq="2")
        self.fake.publish("token", "token", seq="4", text="Be")
        self.assertEqual(next(events).text, "Be")

    def test_end_when_nothing_came_for_a_while_or_the_runtime_has_gone(self):
        events = self.connect().events(timeout=0.05)
        self.assertEqual(len(list(events)), 1)
        events = self.connect().events()
        next(events)
        self.fake.die()
        self.expect(polykv.NotRunning, next, events)


class Endings(Case):
    """No wait outlives what it waits for."""

    def test_a_runtime_that_dies_fails_all_that_waits_and_all_that_comes(self):
        client = self.connect()
        asked = threading.Event()
        self.script["generate"] = lambda _: asked.set() or []
        threading.Thread(target=lambda: asked.wait() and self.fake.die()).start()
        self.expect(polykv.NotRunning, client.pool().ask, "Why?")
        self.assertIn("connect again", str(self.expect(polykv.NotRunning, client.status)))

    def test_what_it_said_last_is_heard_though_its_end_is_known(self):
        self.script["shutdown"] = lambda request: self.fake.send(
            request["client_"], "ok", id=request["id"]) or self.fake._orders.put(None) or []

        async def work(client):
            transport = client._transport
            exchange = await transport.open(polykv._protocol.request("shutdown"))
            self.assertTrue(transport._watch._inner.poll(WAIT_S * 1000))  # the loop stands still
            transport._disconnected()
            return (await exchange.next())["type"], transport.failure
        last, failure = self.run_async(work)
        self.assertEqual((last, type(failure)), ("ok", polykv.NotRunning))

    def test_a_runtime_that_dies_with_a_text_in_its_hands(self):
        client = self.connect()
        self.script["append"] = lambda _: self.fake._orders.put(None) or []
        self.expect(polykv.NotRunning, client.pool().append, "x" * 900_001)

    def test_a_connection_for_memory_that_ends_alone_costs_only_what_went_over_it(self):
        client = self.connect()
        self.script["append"] = lambda _: None
        self.expect(polykv.NotRunning, client.pool().append, "x" * 900_001)
        self.script["append"] = lambda _: [("pool_ready", {})]
        self.assertEqual(client.pool().append("x" * 900_001).version, 1)

    def test_a_runtime_that_hangs_past_the_deadline_is_given_up_and_told(self):
        client = self.connect()
        self.script["generate"] = lambda _: []
        with unittest.mock.patch("polykv._protocol.ANSWER_S", 0.05):
            self.expect(polykv.TimedOut, client.pool().ask, "Why?", deadline=0)
        client.status()
        self.assertEqual(len(self.fake.requests("cancel")), 1)

    def test_closing_fails_what_waits_in_other_threads(self):
        client = self.connect()
        asked = threading.Event()
        self.script["generate"] = lambda _: asked.set() or []
        failures = []

        def ask():
            failures.append(self.expect(polykv.NotRunning, client.pool().ask, "Why?"))
        thread = threading.Thread(target=ask)
        thread.start()
        asked.wait()
        client.close()
        thread.join()
        self.assertIn("closed", str(failures[0]))
        self.expect(polykv.NotRunning, client.status)
        client.close()

    def test_nonsense_from_the_runtime_ends_the_connection_with_a_sentence(self):
        client = self.connect()
        self.script["status"] = lambda request: self.fake.send_raw(request["client_"], b"{") or []
        self.assertIn("not JSON", str(self.expect(polykv.BadMessage, client.status)))

    def test_ctrl_c_cancels_what_was_asked(self):
        program = ("import os, polykv\n"
                   f"client = polykv.connect({self.dir!r})\n"
                   "try:\n  client.pool().ask('Why?')\n"
                   "except KeyboardInterrupt:\n  client.status(); os._exit(9)\n")
        asked = threading.Event()
        self.script["generate"] = lambda _: asked.set() or []
        process = subprocess.Popen([sys.executable, "-c", program], env={
            **os.environ, "PYTHONPATH": CLIENT})
        self.assertTrue(asked.wait(WAIT_S))
        process.send_signal(2)
        self.assertEqual(process.wait(WAIT_S), 9)
        generate = self.fake.requests("generate")[0]
        self.assertEqual(self.fake.requests("cancel")[0]["request"], generate["id"])


class Threads(Case):

    def test_calls_of_many_threads_run_beside_each_other(self):
        client = self.connect()
        waiting = []

        def all_at_once(request):
            waiting.append(request)
            if len(waiting) < 8:
                return []
            return [("done", {"id": one["id"], "text": one["prompt"]}) for one in waiting]
        self.script["generate"] = all_at_once
        texts = {}

        def ask(prompt):
            texts[prompt] = client.pool().ask(prompt).text
        threads = [threading.Thread(target=ask, args=(f"q{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(texts, {f"q{i}": f"q{i}" for i in range(8)})

    def test_a_callback_may_not_call_the_client_and_its_failure_is_the_callers(self):
        client = self.connect()
        self.script["append"] = lambda _: [("progress", {})]
        error = self.expect(RuntimeError, client.pool().append, "Text.",
                            on_progress=lambda _: client.status())
        self.assertIn("callback", str(error))
        client.status()
        self.assertEqual(len(self.fake.requests("cancel")), 1)

    def test_a_forked_child_is_told_to_connect_again(self):
        client = self.connect()
        child = os.fork()
        if child == 0:
            try:
                client.status()
            except RuntimeError as error:
                os._exit(7 if "connect again" in str(error) else 8)
            os._exit(9)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 7)


class Asyncio(Case):

    def test_requests_run_beside_each_other_and_a_cancelled_task_cancels_its_own(self):
        self.script["generate"] = lambda request: (
            [("done", {"text": "B"})] if request["prompt"] == "b" else [])

        async def work(client):
            slow = asyncio.create_task(client.pool().ask("a"))
            quick = await client.pool().ask("b")
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
            await client.status()
            return quick.text, slow.cancelled()
        self.assertEqual(self.run_async(work), ("B", True))
        wanted = [r["id"] for r in self.fake.requests("generate") if r["prompt"] == "a"]
        self.assertEqual([r["request"] for r in self.fake.requests("cancel")], wanted)

    def test_streams_events_and_conversations(self):
        self.script["generate"] = lambda _: [("token", {}), ("done", {})]

        async def work(client):
            async with await client.pool().stream("Why?") as stream:
                pieces = [piece async for piece in stream]
            talk = client.pool().conversation()
            await talk.say("Why?")
            async for event in client.events():
                return pieces, stream.answer.text, len(talk.messages), event.seq
        self.assertEqual(self.run_async(work), (["Bec"], "Because.", 2, 1))

    def test_an_answer_that_arrived_during_a_send_is_heard(self):
        self.script["hello"] = lambda request: (
            [] if request["client"] == "second" else [("welcome", {})])

        async def work(client):
            transport = client._transport
            first = await transport.open(polykv._protocol.request("status"))
            transport._control._inner.poll(WAIT_S * 1000)  # takes the descriptor's edge
            await transport.open(polykv._protocol.request("hello", client="second"))
            return (await first.next())["type"]
        self.assertEqual(self.run_async(work), "snapshot")

    def test_has_the_methods_of_the_blocking_client(self):
        pairs = ((polykv.Client, polykv.AsyncClient), (polykv.Pool, polykv.AsyncPool),
                 (polykv.Stream, polykv.AsyncStream),
                 (polykv.Conversation, polykv.AsyncConversation))

        def methods(kind):
            return {name: [(p.name, p.kind, p.default) for p in
                           inspect.signature(member).parameters.values()]
                    for name, member in inspect.getmembers(kind, callable)
                    if not name.startswith("_")}
        for blocking, other in pairs:
            with self.subTest(other.__name__):
                self.assertGreater(len(methods(blocking)), 1)
                self.assertEqual(methods(blocking), methods(other))


if __name__ == "__main__":
    unittest.main()
