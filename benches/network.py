#!/usr/bin/env python3
"""What nodes do together, beside bitcoind in the same run. Results go into BENCHMARKS.md.

    cargo build --release -p cairn
    benches/network.py CAIRN BITCOIND sync NAME FILE    # time to follow a chain from one bitcoind; FILE by `import -- write`
    benches/network.py CAIRN BITCOIND line [NODES]      # time that a block takes along a line of nodes
    benches/network.py CAIRN BITCOIND idle              # memory and time to ready of a node alone
    benches/network.py CAIRN - many NODES…              # nodes in one network on this machine, each a process

Everything stays on loopback, in a temporary directory (of memory, where there is one), and ends by itself.
"""

import base64
import http.client
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

P2P, RPC, METRICS = 24000, 25000, 26000
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
ROUNDS, BLOCKS = 5, 20
PATIENCE = 600


class Node:
    """A node of either kind, by its number."""

    def __init__(self, program, number, root, peers=(), core=False, more=()):
        self.number, self.data, self.connection = number, f"{root}/{number}", None
        os.makedirs(self.data, exist_ok=True)
        p2p, rpc = P2P + number, RPC + number
        if core:
            args = [program, "-regtest", f"-datadir={self.data}", f"-port={p2p}", f"-rpcport={rpc}", f"-bind=127.0.0.1:{p2p}"]
            # What slows a regtest node down, and nothing else does, is off.
            args += ["-printtoconsole=0", "-dnsseed=0", "-checkblockindex=0", "-checkmempool=0", "-checkaddrman=0"]
            args += [f"-connect=127.0.0.1:{P2P + peer}" for peer in peers]
        else:
            args = [program, "node", "--data-dir", self.data, "--p2p", f"127.0.0.1:{p2p}", "--rpc", f"127.0.0.1:{rpc}"]
            args += ["--metrics", f"127.0.0.1:{METRICS + number}", "--block-time", "0"]
            args += [f"--connect=127.0.0.1:{P2P + peer}" for peer in peers]
        self.started = time.perf_counter()
        self.process = subprocess.Popen([*args, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def rpc(self, method, *params):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", RPC + self.number, timeout=60)
            cookie = pathlib.Path(self.data, "regtest/.cookie").read_bytes()
            self.headers = {"Authorization": "Basic " + base64.b64encode(cookie).decode(), "Content-Type": "application/json"}
        self.connection.request("POST", "/", json.dumps({"method": method, "params": params}), self.headers)
        return json.loads(self.connection.getresponse().read())["result"]

    def wait(self, height, pause=0.01):
        """Until it answers and has so many blocks."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if (self.rpc("getblockcount") or 0) >= height:
                    return
            except (OSError, http.client.HTTPException, ValueError):
                self.connection = None
            time.sleep(pause)
        raise SystemExit(f"node {self.number} did not get to height {height}")

    def kib(self, field):
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(field)))

    def cpu(self):
        """Seconds of processor time."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.terminate()
        self.process.wait(60)


def sync(cairn, bitcoind, name, chain):
    with tempfile.TemporaryDirectory() as root:
        # The chain as a block file that bitcoind reads.
        blocks, data, at, count = f"{root}/blocks", pathlib.Path(chain).read_bytes(), 0, 0
        with open(blocks, "wb") as file:
            while at < len(data):
                length = struct.unpack_from("<I", data, at)[0] + 4
                file.write(b"\xfa\xbf\xb5\xda" + data[at : at + length])
                at, count = at + length, count + 1
        source = Node(bitcoind, 0, root, core=True, more=[f"-loadblock={blocks}", "-maxtipage=999999999999"])
        try:
            source.wait(count)
            times = {"cairn": [], "bitcoind": []}
            for turn in range(ROUNDS):
                for kind, taken in times.items():
                    core = kind == "bitcoind"
                    more = ["-maxtipage=999999999999"] if core else []
                    with tempfile.TemporaryDirectory() as fresh:
                        node = Node(bitcoind if core else cairn, 1, fresh, [0], core, more)
                        try:
                            node.wait(count)
                            taken.append(time.perf_counter() - node.started)
                            print(f"{kind} {taken[-1]:.2f} s, {node.kib('VmHWM') // 1024} MiB at most", flush=True)
                        finally:
                            node.end()
        finally:
            source.end()
    cairn, core = (statistics.median(taken) for taken in times.values())
    print(f"{name}: {count} blocks, medians of {ROUNDS}: cairn {cairn:.2f} s, bitcoind {core:.2f} s: {core / cairn:.2f} times as fast")


def crossing(nodes):
    """Milliseconds from the first node's tip to the last one's."""
    height, seen = nodes[0].rpc("getblockcount"), {}

    def watch(node):
        while node.rpc("getblockcount") == height:
            pass
        seen[node.number] = time.perf_counter()

    # Two watchers ask as fast as they are answered; the first one's answer is as old as the last one's.
    miner = Node.__new__(Node)
    miner.number, miner.data, miner.connection = nodes[0].number, nodes[0].data, None
    watchers = [threading.Thread(target=watch, args=[node]) for node in (nodes[0], nodes[-1])]
    for watcher in watchers:
        watcher.start()
    miner.rpc("generatetoaddress", 1, ADDRESS)
    for watcher in watchers:
        watcher.join()
    return (seen[nodes[-1].number] - seen[nodes[0].number]) * 1000


def line(cairn, bitcoind, count):
    for kind, program in (("cairn", cairn), ("bitcoind", bitcoind)) * 2:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
            nodes = []
            try:
                for number in range(count):
                    nodes.append(Node(program, number, root, [number - 1] if number else [], kind == "bitcoind"))
                    nodes[-1].wait(0)
                for height in range(1, 6):
                    nodes[0].rpc("generatetoaddress", 1, ADDRESS)
                    nodes[-1].wait(height)
                    time.sleep(0.5)
                times = [crossing(nodes) for _ in range(BLOCKS)]
                mean = statistics.mean(node.kib("VmRSS") for node in nodes) / 1024
                print(f"{kind}: {count} nodes, {BLOCKS} blocks: median {statistics.median(times):.2f} ms, mean {statistics.mean(times):.2f} ms, {mean:.1f} MiB a node", flush=True)
            finally:
                for node in nodes:
                    node.end()


def idle(cairn, bitcoind):
    for kind, program in (("cairn", cairn), ("bitcoind", bitcoind)):
        ready, memory = [], []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as root:
                node = Node(program, 0, root, core=kind == "bitcoind")
                try:
                    node.wait(0, pause=0.002)
                    ready.append((time.perf_counter() - node.started) * 1000)
                    time.sleep(5)
                    memory.append(node.kib("VmRSS") / 1024)
                finally:
                    node.end()
        print(f"{kind}: ready after {statistics.median(ready):.0f} ms, {statistics.median(memory):.1f} MiB idle", flush=True)


def many(cairn, counts):
    rng = random.Random(1)
    for count in counts:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
            nodes = []
            try:
                for number in range(count):
                    peers = rng.sample(range(number), min(number, 3))
                    nodes.append(Node(cairn, number, root, peers))
                    nodes[-1].wait(0)
                for height in range(1, 6):
                    nodes[0].rpc("generatetoaddress", 1, ADDRESS)
                    for node in nodes:
                        node.wait(height)
                before, start = sum(node.cpu() for node in nodes), time.perf_counter()
                time.sleep(20)
                used = (sum(node.cpu() for node in nodes) - before) / (time.perf_counter() - start)
                times = []
                for height in range(6, 16):
                    began = time.perf_counter()
                    nodes[0].rpc("generatetoaddress", 1, ADDRESS)
                    for node in reversed(nodes):
                        node.wait(height, pause=0)
                    times.append((time.perf_counter() - began) * 1000)
                    time.sleep(0.2)
                memory = sum(node.kib("VmRSS") for node in nodes) / 1024
                own = sum(node.kib("RssAnon") for node in nodes) / 1024
                print(f"{count} nodes: {memory:.0f} MiB resident, {own:.0f} MiB of it their own, idle {used * 100:.1f}% of a core, a block at all after {statistics.median(times):.0f} ms (asked one after the other)", flush=True)
            finally:
                for node in nodes:
                    node.process.terminate()
                for node in nodes:
                    node.process.wait(60)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [cairn, bitcoind, "sync", name, chain]:
            sync(cairn, bitcoind, name, chain)
        case [cairn, bitcoind, "line", *rest]:
            line(cairn, bitcoind, int(rest[0]) if rest else 10)
        case [cairn, bitcoind, "idle"]:
            idle(cairn, bitcoind)
        case [cairn, _, "many", *counts]:
            many(cairn, [int(count) for count in counts])
        case _:
            raise SystemExit(__doc__)
