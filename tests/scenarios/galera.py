"""A Galera cluster of MariaDB nodes on 127.0.0.1, for tests that take nodes away from it."""

import shutil
import time

from tests.databases import PATIENCE_SECONDS, MariaDb
from tests.ports import free_port

PROVIDER = "/usr/lib/galera/libgalera_smm.so"
_PROVIDER_OPTIONS = {
    "gcache.size": "16M",
    # A dead node is noticed in seconds; the margin is for slow machines.
    "evs.keepalive_period": "PT0.5S",
    "evs.inactive_check_period": "PT0.5S",
    "evs.suspect_timeout": "PT3S",
    "evs.inactive_timeout": "PT6S",
    "evs.install_timeout": "PT6S",
}


class GaleraCluster:
    """Nodes in order; ``new_mariadb`` makes their servers."""

    def __init__(self, new_mariadb, size: int = 3) -> None:
        self.nodes: list[MariaDb] = [new_mariadb() for _ in range(size)]
        self._ports = [free_port() for _ in self.nodes]
        for node, port in zip(self.nodes, self._ports, strict=True):
            provider = {
                **_PROVIDER_OPTIONS,
                "gmcast.listen_addr": f"tcp://127.0.0.1:{port}",
                "ist.recv_addr": f"127.0.0.1:{free_port()}",
            }
            members = ",".join(f"127.0.0.1:{other}" for other in self._ports)
            node.options += [
                "--binlog-format=ROW",
                "--innodb-autoinc-lock-mode=2",
                "--wsrep-on=ON",
                f"--wsrep-provider={PROVIDER}",
                f"--wsrep-cluster-address=gcomm://{members}",
                "--wsrep-cluster-name=posthouse",
                "--wsrep-node-address=127.0.0.1",
                "--wsrep-sst-method=rsync",
                f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
                "--wsrep-provider-options=" + ";".join(f"{name}={value}" for name, value in provider.items()),
            ]

    def start(self) -> "GaleraCluster":
        """Found the cluster on the first node; the others copy its data."""
        first, *others = self.nodes
        first.options.append("--wsrep-new-cluster")
        first.launch()
        first.options.remove("--wsrep-new-cluster")
        self.await_synced(first)
        for node in others:
            node.launch()
            self.await_synced(node)
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def status(self, node: MariaDb, name: str) -> str:
        """A ``wsrep_`` status of a node, empty while it doesn't answer."""
        answer = node.execute(f"SHOW STATUS LIKE '{name}'", check=False)
        return answer.partition("\t")[2].strip()

    def await_synced(self, node: MariaDb) -> None:
        """Wait until that node serves."""
        self._await(node, "wsrep_local_state_comment", "Synced")

    def await_minority(self, node: MariaDb) -> None:
        """Wait until that node knows that it has lost the others."""
        self._await(node, "wsrep_cluster_status", "non-Primary")

    def rejoin(self, node: MariaDb) -> None:
        """Start a node that was killed; it catches up and serves."""
        node.launch()
        self.await_synced(node)

    def bootstrap(self, node: MariaDb) -> None:
        """What an operator does once the majority is lost for good: this node is the cluster now."""
        node.execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")
        self.await_synced(node)

    def _await(self, node: MariaDb, name: str, value: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.status(node, name) != value:
            if time.monotonic() > deadline or not node.pids():
                log = node.log_file.read_text(errors="replace")[-4000:]
                raise AssertionError(f"{name} is {self.status(node, name)!r}, not {value!r}:\n{log}")
            time.sleep(0.1)


def is_there() -> bool:
    """Whether this machine has what a cluster needs."""
    from pathlib import Path

    return Path(PROVIDER).exists() and shutil.which("rsync") is not None
