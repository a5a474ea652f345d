"""cli/dns.py, with a name server of the test's own."""

import json

from tests.running import RunningServer
from tests.validatingserver import ValidatingServer


def test_the_servers_are_told_with_what_is_wrong(tmp_path):
    with ValidatingServer({".": [], "plain.example": []}, (".",)) as names:
        server = RunningServer(tmp_path, f'[dns]\nservers = ["{names.address}"]\n')
        assert names.address in server.cli("dns", "check").stdout
        done = server.cli("dns", "check", "--name", "plain.example", "--json", check=False)
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert told["servers"][0]["validates"] is False
        assert "no DANE" in told["problem"]
