"""What test_bench.py has gdb run: times commands in this very session, prints one line of JSON.

Environment: BENCH_COMMANDS, a JSON list of gdb commands; BENCH_ROUNDS, how often to run the list.
"""

import json
import os
import time

import gdb

seconds = {}
gdb.execute("set pagination off")
for _ in range(int(os.environ["BENCH_ROUNDS"])):
    for command in json.loads(os.environ["BENCH_COMMANDS"]):
        began = time.perf_counter()
        said = gdb.execute(command, to_string=True)
        seconds.setdefault(command, []).append(time.perf_counter() - began)
        if command.startswith("deadlock") and "VERDICT: DEADLOCK" not in said:
            raise gdb.GdbError(said)
print("\nbench " + json.dumps(seconds))
