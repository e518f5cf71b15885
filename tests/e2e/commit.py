"""A committed turn: what appending its text gives, without a prefill, first come first served."""

import os
import signal
import sys
import threading
import unittest

import harness
import links
import quality

sys.path.insert(0, str(harness.SOURCE / "agents/python/src"))

import polykv  # noqa: E402

QUESTION = "What does this text say about copies?"
FORCED = 96  # tokens of a text that the pools are asked to predict


class Case(harness.Case):
    n_agents = 2

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=3000), "--agents", self.n_agents)
        self.client = polykv.connect(self.runtime)
        self.addCleanup(self.client.close)
        self.pool = self.client.pool("main")

    def link(self):
        link = links.Link(self.runtime, harness.DEADLINE_S)
        self.addCleanup(link.close)
        return link

    def ask_and_keep(self, pool=None, agent="a01", **options):
        return (pool or self.pool).ask(QUESTION, agent=agent, **{"max_tokens": 40, **options})

    def send_writer(self, number):
        os.kill(self.status()["models"][0]["writer_pid"], number)


class Turn(Case):

    def test_works_while_the_writer_stands_still_and_the_span_is_the_agents_own_memory(self):
        answer = self.ask_and_keep()
        self.send_writer(signal.SIGSTOP)
        self.addCleanup(self.send_writer, signal.SIGCONT)
        made = self.client.commit(answer)
        self.assertEqual((made.version, made.segments, made.prefill_tokens), (2, 2, 0))
        self.assertEqual((made.agent, made.pid), ("a01", answer.pid))
        before, after = self.link().attach("main", 1), self.link().attach("main", 2)
        inodes = [os.fstat(fd).st_ino for fd in after]
        self.assertEqual(inodes[0], os.fstat(before[0]).st_ino)
        self.assertEqual(inodes[1], made.inode)
        told = self.pool.ask("Say that again.", agent="a02", max_tokens=4)
        self.assertEqual(told.version, 2)

    def test_a_stopped_string_is_not_in_the_turn(self):
        whole = self.ask_and_keep()
        stop = whole.text[len(whole.text) // 2:][:4]
        answer = self.ask_and_keep(stop=[stop])
        self.assertEqual(answer.reason, "stop")
        made = self.client.commit(answer)
        self.assertLess(made.turn_tokens, answer.prompt_tokens + whole.tokens)

    def test_another_request_since_is_refused_and_appending_is_the_way_out(self):
        answer = self.ask_and_keep()
        self.pool.ask("Something else?", agent="a01", max_tokens=4)
        with self.assertRaises(polykv.Conflict) as refused:
            self.client.commit(answer)
        self.assertIn("append", str(refused.exception))
        self.pool.append(QUESTION, role="user")
        self.assertEqual(self.pool.append(answer.text, role="assistant").version, 3)

    def test_of_two_at_once_the_first_wins_and_the_other_learns_the_version(self):
        answers = [self.ask_and_keep(agent=agent) for agent in ("a01", "a02")]
        ended = []

        def commit(answer):
            try:
                ended.append(self.client.commit(answer))
            except polykv.Conflict as refused:
                ended.append(refused)
        threads = [threading.Thread(target=commit, args=[answer]) for answer in answers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [one for one in ended if not isinstance(one, polykv.Conflict)]
        lost = [one for one in ended if isinstance(one, polykv.Conflict)]
        self.assertEqual((len(won), len(lost), won[0].version), (1, 1, 2))
        self.assertEqual((lost[0].value, lost[0].limit), ("1", "2"))
        self.assertEqual(self.status()["pools"][0]["version"], 2)

    def test_a_follow_up_goes_on_from_the_turn_and_says_what_another_agent_says(self):
        first = self.ask_and_keep()
        messages = [{"role": "user", "content": QUESTION},
                    {"role": "assistant", "content": first.text},
                    {"role": "user", "content": "Are there limits to it?"}]
        ours = self.pool.ask(messages=messages, agent="a01", max_tokens=24)
        theirs = self.pool.ask(messages=messages, agent="a02", max_tokens=24)
        self.assertGreater(ours.reused_tokens, first.prompt_tokens)
        self.assertEqual(theirs.reused_tokens, 0)
        self.assertEqual(ours.token_ids, theirs.token_ids)


class Likeness(Case):
    """The same turn committed to a pool, and appended, by role, to its twins."""

    def predict(self, pool, version):
        """Log-probabilities over a text that no pool holds, by an agent of its own."""
        agent = self.client.pool(pool).start_agents(1, version=version)[0]
        link = self.link()
        text = (harness.LICENSES / "GPL-2").read_text()[3000:6000]
        scores = link.score(agent, link.tokenize(text)[:FORCED])
        self.client.stop_agents(agent)
        return scores

    def append(self, pool, answer):
        self.client.pool(pool).append(QUESTION, role="user")
        return self.client.pool(pool).append(answer.text, role="assistant").version

    def test_a_committed_turn_is_within_the_codecs_divergence_of_appending_its_text(self):
        exact = self.client.create_pool("exact", path=self.gpl(n_bytes=3000), codec="f16")
        self.pool.fork("twin")
        answer = self.ask_and_keep(max_tokens=60, ignore_eos=True)
        committed = self.predict("main", self.client.commit(answer).version)
        appended = self.predict("twin", self.append("twin", answer))
        wanted = self.predict("exact", self.append("exact", answer))
        without = self.predict("main", 1)
        # What the codec costs here: pool and turn in k4v4 against all of it in f16.
        codec = divergence(appended, wanted)
        found = {"from append": divergence(committed, appended),
                 "from exact": divergence(committed, wanted)}
        print(f"KLD median: append from exact {codec:.1e}, commit {found}, without the turn "
              f"{divergence(without, wanted):.1e}")
        self.assertLessEqual(found["from append"], codec)
        self.assertLessEqual(found["from exact"], 1.5 * codec)
        self.assertGreater(divergence(without, wanted), 10 * codec, "the turn has to matter")

    def test_where_the_codec_costs_nothing_they_are_the_same(self):
        exact = self.client.create_pool("exact", path=self.gpl(n_bytes=3000), codec="f16")
        exact.fork("exact-twin")
        answer = self.ask_and_keep(exact, max_tokens=60, ignore_eos=True)
        committed = self.predict("exact", self.client.commit(answer).version)
        appended = self.predict("exact-twin", self.append("exact-twin", answer))
        found = divergence(committed, appended)
        print(f"f16: KLD median of commit from append {found:.1e}")
        self.assertLessEqual(found, quality.KLD_MEDIAN["f16"][1])


def divergence(ours, theirs):
    return links.median(links.divergences(ours, theirs))


if __name__ == "__main__":
    unittest.main()
