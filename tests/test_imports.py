"""Importing defines things and does nothing: no file, no socket, no thread, no child process."""

import pkgutil
import subprocess
import sys

import tidegate

PROGRAM = """
import importlib, sys
done = []
def watch(event, arguments):
    if event in {"socket.bind", "socket.connect", "subprocess.Popen", "os.system", "os.mkdir"}:
        done.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        if not str(arguments[0]).endswith((".pyc", "/dev/null")) and ".pyc." not in str(arguments[0]):
            done.append(f"open {arguments[0]}")
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
import threading
assert threading.active_count() == 1, threading.enumerate()
assert not done, done
"""


def test_nothing_runs_at_import() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(tidegate.__path__, "tidegate.")
        if not module.name.endswith("__main__")
    ]

    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM, *names], check=True, timeout=60)

    assert len(names) > 100
