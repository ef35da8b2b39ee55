"""Checks that this process runs in a container as strict as the tests require."""

import os
import pwd
import socket
import sys
import tempfile


def fails(action, *errors):
    try:
        action()
    except errors:
        return True
    return False


restrictions = {
    "process 1": os.getpid() == 1,
    "a user without an account": os.getuid() != 0 and fails(lambda: pwd.getpwuid(os.getuid()), KeyError),
    "no HOME": "HOME" not in os.environ,
    "no resolv.conf": not os.path.exists("/etc/resolv.conf"),
    "no directory for temporary files": fails(tempfile.gettempdir, FileNotFoundError),
    "a read-only root": fails(lambda: open("/file", "w"), OSError),
    "a read-only program directory": fails(lambda: open("/app/sdk/file", "w"), OSError),
    "no network interface but loopback": [name for _, name in socket.if_nameindex()] == ["lo"],
    "no other directories of the host": not {"home", "root", "tmp", "run", "var"}
    & {name for name in os.listdir("/") if not sys.prefix.startswith(f"/{name}/")},
    "the variables of Kubernetes": os.environ["P2P_NODE_PORT"].startswith("tcp://"),
}
missing = [name for name, holds in restrictions.items() if not holds]
sys.exit(f"missing restrictions: {', '.join(missing)}" if missing else 0)
