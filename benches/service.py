#!/usr/bin/env python3
"""What one process does: ready time, idle weight, digests a second, hashing. Results go into BENCHMARKS.md.

    cargo build --release -p cairn
    benches/service.py ~/.cache/cairn/target/release/cairn [--otsd DIR --python PYTHON]

Needs wrk and openssl. With --otsd, a checkout of opentimestamps-server is measured in the same run, by a Python that has
its requirements. Everything stays on loopback, in a temporary directory, and ends by itself.
"""

import argparse
import http.client
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HTTP, RPC, OTSD = 18080, 18445, 14788
CALM = 20  # seconds of idling that are measured


class Server:
    def __init__(self, binary, data, block_time="10"):
        args = [binary, "up", "--data-dir", data, "--block-time", block_time]
        args += ["--http", f"127.0.0.1:{HTTP}", "--rpc", f"127.0.0.1:{RPC}", "--p2p", "127.0.0.1:0"]
        started = time.perf_counter()
        self.process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=5)
                connection.request("GET", "/api/health/ready")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit("cairn up ended")
            time.sleep(0.001)
        self.ready_ms = (time.perf_counter() - started) * 1000

    def memory(self):
        text = open(f"/proc/{self.process.pid}/status").read()
        return {key: int(re.search(rf"{key}:\s+(\d+)", text)[1]) for key in ("VmRSS", "VmHWM", "Threads")}

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def wrk(port, connections, seconds):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "digest.lua")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, f"http://127.0.0.1:{port}/"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    p50, p99 = (re.search(rf"{p}%\s+(\S+)", text)[1] for p in (50, 99))
    errors = re.search(r"(Socket errors|Non-2xx).*", text)
    return f"{rate:,.0f}/s, p50 {p50}, p99 {p99}" + (f" ({errors[0]})" if errors else "")


def bulk(total, each=65_536, connections=4):
    """Digests in bulk, random ones, so that making them costs this side as little as can be."""
    lock, sent, times = threading.Lock(), [0], []

    def run():
        connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=60)
        while True:
            with lock:
                if sent[0] >= total:
                    return
                sent[0] += each
            body = os.urandom(32 * each)
            began = time.perf_counter()
            connection.request("POST", "/api/v1/stamps", body, {"Content-Type": "application/vnd.cairn.digests"})
            answer = connection.getresponse()
            answer.read()
            if answer.status >= 300:
                sys.exit(f"bulk: {answer.status}")
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    threads = [threading.Thread(target=run) for _ in range(connections)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    rate = sent[0] / (time.perf_counter() - began)
    return f"{rate:,.0f} digests/s over {sent[0]:,}, p50 {statistics.median(times) * 1000:.0f} ms a request"


def fsync_loop(path, size, seconds=3):
    block, count, began = os.urandom(size), 0, time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        while time.perf_counter() - began < seconds:
            file.write(block)
            os.fsync(file.fileno())
            count += 1
    os.unlink(path)
    return count / seconds


def timed(command, **kwargs):
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **kwargs)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if status:
        sys.exit(f"{command} failed")
    return took, usage.ru_maxrss


def hashing(binary, directory):
    big = os.path.join(directory, "big")
    with open(big, "wb") as file:
        for _ in range(1024):
            file.write(os.urandom(1 << 20))
    environment = dict(os.environ, CAIRN_SERVER=f"http://127.0.0.1:{HTTP}")
    ours, theirs, rss = [], [], 0
    for _ in range(5):
        took, peak = timed([binary, "stamp", "--force", big], env=environment)
        ours.append(took)
        rss = max(rss, peak)
        theirs.append(timed(["openssl", "dgst", "-sha256", big])[0])
    os.unlink(big)
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    return f"cairn stamp {ours:.2f} s, openssl {theirs:.2f} s: {theirs / ours:.0%} of its speed; peak {rss // 1024} MiB"


def otsd(directory, python):
    home = tempfile.mkdtemp()
    calendar = os.path.join(home, ".otsd/calendar")
    os.makedirs(calendar + "/backup_cache")
    for name, content in [
        ("uri", f"http://127.0.0.1:{OTSD}".encode()),
        ("hmac-key", os.urandom(32)),
        ("donation_addr", b"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"),
    ]:
        open(os.path.join(calendar, name), "wb").write(content)
    process = subprocess.Popen(
        [python, "otsd", "--btc-regtest", "-q", "--rpc-port", str(OTSD)],
        cwd=directory, env=dict(os.environ, HOME=home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    time.sleep(4)
    try:
        return wrk(OTSD, 64, 15)
    finally:
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--otsd")
    parser.add_argument("--python", default=sys.executable)
    args = parser.parse_args()
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())[1]
    print(f"{os.cpu_count()} cores, {model}, {platform.release()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "data")
        server = Server(args.binary, data)
        print(f"ready, first start (101 blocks mined): {server.ready_ms:.0f} ms")
        server.stop()
        starts = []
        for _ in range(5):
            server = Server(args.binary, data)
            starts.append(server.ready_ms)
            server.stop()
        print(f"ready, existing data directory: median {statistics.median(starts):.0f} ms, worst {max(starts):.0f} ms")
        server = Server(args.binary, data)
        time.sleep(3)
        before, began = server.cpu_seconds(), time.perf_counter()
        time.sleep(CALM)
        share = (server.cpu_seconds() - before) / (time.perf_counter() - began)
        memory = server.memory()
        print(f"idle: {memory['VmRSS'] / 1024:.1f} MiB resident, {memory['Threads']} threads, {share:.2%} of a core")
        print(f"hashing 1 GiB: {hashing(args.binary, directory)}")
        print(f"POST /digest, 64 clients: {wrk(HTTP, 64, 15)}")
        print(f"bulk: {bulk(10_000_000)}")
        memory = server.memory()
        print(f"afterwards: {memory['VmRSS'] / 1024:.0f} MiB resident, peak {memory['VmHWM'] / 1024:.0f} MiB")
        server.stop()
        loop = os.path.join(directory, "loop")
        print(f"bare write and fsync: {fsync_loop(loop, 2048):,.0f}/s of 2 KiB, {fsync_loop(loop, 2 << 20):,.0f}/s of 2 MiB")
        if args.otsd:
            print(f"opentimestamps-server, POST /digest, 64 clients: {otsd(args.otsd, args.python)}")


if __name__ == "__main__":
    main()
