"""What the tests of the Python client share: a scripted runtime in a directory of its own."""

import asyncio
import os
import pathlib
import sys
import tempfile
import unittest

import fake_runtime

SOURCE = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
CLIENT = str(SOURCE / "agents/python/src")
sys.path.insert(0, CLIENT)

import polykv  # noqa: E402  (the client of this checkout)

WAIT_S = 60  # for any wait: a test that gets there has failed


class Case(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pkv-")
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.fake = fake_runtime.FakeRuntime(self.dir)
        self.addCleanup(self.fake.die)
        self.script = self.fake.script

    def connect(self):
        client = polykv.connect(self.dir)
        self.addCleanup(client.close)
        return client

    def run_async(self, work):
        async def whole():
            async with await polykv.aconnect(self.dir) as client:
                return await asyncio.wait_for(work(client), WAIT_S)
        return asyncio.run(whole())

    def expect(self, kind, call, *arguments, **options):
        with self.assertRaises(kind) as caught:
            call(*arguments, **options)
        return caught.exception
