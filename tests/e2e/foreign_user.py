"""A runtime serves its own user and root, even where the file system lets others in."""

import json
import os
import subprocess
import sys
import unittest

import harness

NOBODY = 65534

# As another user: one request over each socket; prints both answers.
STRANGER = """
import json, socket, sys, zmq
control = zmq.Context().socket(zmq.DEALER)
control.connect(f"ipc://{sys.argv[1]}/ctl")
control.setsockopt(zmq.RCVTIMEO, 60000)
control.send_json({"v": 1, "type": "shutdown", "id": "mine"})
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.settimeout(60)
link.connect(f"{sys.argv[1]}/fd")
print(json.dumps([control.recv_json(), json.loads(link.recv(65536))]))
"""


class Stranger(harness.Case):

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")

    def test_is_told_so_on_both_sockets_and_changes_nothing(self):
        self.up("--context", self.gpl(n_bytes=1000), "--agents", 1)
        for path in (self.dir, self.runtime):
            os.chmod(path, 0o755)
        for name in ("ctl", "fd"):
            os.chmod(self.runtime / name, 0o777)
        said = subprocess.run([sys.executable, "-c", STRANGER, self.runtime], user=NOBODY,
                              group=NOBODY, extra_groups=[], capture_output=True, check=False,
                              cwd="/", timeout=harness.DEADLINE_S)
        self.assertEqual(said.returncode, 0, said.stderr.decode())
        for answer in json.loads(said.stdout):
            self.assertEqual((answer["type"], answer["code"]), ("error", "forbidden"))
            self.assertEqual((answer["value"], answer["limit"]), (str(NOBODY), "0"))
        self.assertEqual(self.ask("What is this?", "--max-tokens", "4")["agent"], "a01")


if __name__ == "__main__":
    unittest.main()
