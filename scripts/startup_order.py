#!/usr/bin/env python3
"""Writes crates/cairn/startup.txt: the functions that a node needs to start and to idle, which build.rs has the linker put
side by side.

    cargo build --release -p cairn && scripts/startup_order.py target/release/cairn

The kernel maps 64 KiB of a program around each page that is touched, so that code which is scattered costs a process
sixteen times its size (docs/decisions/0007-idle-memory.md). The functions are those that valgrind's callgrind (needed here,
not for a build) sees in `cairn node`, then those of `cairn up` besides. Names are written without the hashes that a
compiler adds: the list outlives changes of code and compiler, and a function that it misses costs at most its 64 KiB. Make it
anew when BENCHMARKS.md's idle node has grown.
"""

import base64
import collections
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

LIST = pathlib.Path(__file__).resolve().parent.parent / "crates/cairn/startup.txt"
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
IDLE_SECONDS = 12


def stable(symbol):
    """A symbol as a pattern: the hashes of Rust's two manglings and what LTO appends match anything."""
    symbol = re.sub(r"\.llvm\.\d+$", "", symbol)
    symbol = re.sub(r"17h[0-9a-f]{16}E$", "17h", symbol)
    return re.sub(r"Cs[0-9a-zA-Z]+_", "Cs*_", symbol) + "*"


def sizes(program):
    """Bytes of every function, and the order that the linker gave them."""
    found = {}
    for line in subprocess.run(["nm", "-nS", program], check=True, capture_output=True, text=True).stdout.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "tTwW":
            found[fields[3]] = int(fields[1], 16)
    return found


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(data, port, method, *params):
    cookie = (data / "regtest/.cookie").read_bytes()
    body = json.dumps({"id": 1, "method": method, "params": params}).encode()
    headers = {"Authorization": "Basic " + base64.b64encode(cookie).decode()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", body, headers)
    return json.load(urllib.request.urlopen(request, timeout=60))["result"]


def run(command, data, port, work):
    """Starts a server, does `work` with it, and stops it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                call(data, port, "getblockchaininfo")
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"{command} ended with {process.returncode}")
                time.sleep(0.1)
        work(process)
    finally:
        process.terminate()
        process.wait()


def executed(program, arguments, data, port):
    """Names of the functions that ran until it had idled for a while."""
    with tempfile.TemporaryDirectory() as out:
        profile = pathlib.Path(out) / "profile"
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={profile}"]

        def dump(process):
            time.sleep(IDLE_SECONDS)
            subprocess.run(["callgrind_control", "-d", str(process.pid)], check=True, stdout=subprocess.DEVNULL)
            time.sleep(3)

        run([*valgrind, program, *arguments], data, port, dump)
        # "fn=(12) name" the first time, "fn=(12)" later; "cfn=" the same of what is called.
        names, ran = {}, set()
        for number, name in re.findall(r"^c?fn=\((\d+)\)(?: (.*))?$", profile.with_suffix(".1").read_text(), re.M):
            if name:
                names[number] = name.split("'")[0]
            ran.add(number)
        return {names[number] for number in ran}


def main():
    program = sys.argv[1]
    size = sizes(program)
    with tempfile.TemporaryDirectory() as directory:
        data = pathlib.Path(directory)
        rpc, http = free_port(), free_port()
        common = ["--data-dir", directory, "--rpc", f"127.0.0.1:{rpc}", "--p2p", "127.0.0.1:0"]
        node = ["node", *common, "--metrics", f"127.0.0.1:{http}"]
        miner = [*node, "--miner", "--mining-address", ADDRESS, "--block-time", "2"]
        up = ["up", *common, "--http", f"127.0.0.1:{http}"]
        run([program, *node], data, rpc, lambda _: call(data, rpc, "generatetoaddress", 300, ADDRESS))
        runs = [executed(program, node, data, rpc), executed(program, miner, data, rpc)]
        run([program, *up], data, rpc, lambda _: None)
        runs.append(executed(program, up, data, rpc))

    total = collections.Counter()
    for symbol, bytes_ in size.items():
        total[stable(symbol)] += bytes_
    lines, written = [], set()
    for what, ran in zip(["cairn node", "with --miner", "cairn up"], runs):
        used = collections.Counter()
        for symbol in ran & size.keys():
            used[stable(symbol)] += size[symbol]
        # A pattern may match other instances of a generic function: those that match little else come first.
        new = sorted(used.keys() - written, key=lambda pattern: (total[pattern] / max(used[pattern], 1), pattern))
        written.update(new)
        lines += [f"# {what}", *new]
        print(f"{what}: {len(new)} more patterns, {sum(total[pattern] for pattern in new) >> 10} KiB")
    LIST.write_text("# Made by scripts/startup_order.py, which says what for.\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
