#!/usr/bin/env python3
"""The gateway beside nginx and HAProxy, before the same backend.

    cargo build --release && benches/gateway.py [--rounds N] [--seconds S]

Each of the three has a thread a core, keeps connections to the backend, writes X-Forwarded-For, -Proto, -Host and X-Request-Id,
and keeps no access log. The backend is an nginx with a static file of 128 bytes; the client is wrk. In turn, in each round:

  full     64 connections, each asks again as soon as it is answered: CPU seconds a million requests, requests a second
  equal    64 connections with a pause between requests: the same rate for all three; latency, and CPU again

Prints each round's numbers, the medians, and the gateway's ratio to the better one of the others. Needs nginx, haproxy and wrk
(Debian has all three). Everything listens on loopback.
"""

import argparse
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONNECTIONS = 64
# Mean pause of a connection at equal load, milliseconds: about 2,500 requests a second in all.
PAUSE = 25

NGINX_BACKEND = """
daemon off; worker_processes 1; pid {dir}/backend.pid; error_log {dir}/backend.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; open_file_cache max=10;
  server {{ listen 127.0.0.1:{backend}; root {dir}/www; }}
}}
"""

NGINX = """
daemon off; worker_processes {cores}; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Request-Id $request_id; add_header X-Request-Id $request_id;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread {cores}
  maxconn 8192
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  unique-id-format %{{+X}}o%ci%cp%fi%fp%Ts%rt%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-response set-header X-Request-Id %[unique-id]
  default_backend back
backend back
  server a 127.0.0.1:{backend} check
"""

EQUAL = "function delay() return math.random(0, {}) end\n".format(2 * PAUSE)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def processes(pid):
    """A process and its children."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += processes(int(child))
    return found


def cpu(pid):
    """CPU seconds that a process and its children have used."""
    total = 0
    for process in processes(pid):
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """MiB that a process and its children hold."""
    total = 0
    for process in processes(pid):
        status = pathlib.Path(f"/proc/{process}/status").read_text()
        total += int(re.search(r"VmRSS:\s+(\d+)", status)[1])
    return total / 1024


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def load(port, seconds, script=None):
    """Runs wrk; requests, requests a second, and the 50th and 99th percentile in milliseconds."""
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--latency"]
    command += ["-s", script] if script else []
    output = subprocess.run(command + [f"http://127.0.0.1:{port}/file"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(output)
    requests = int(re.search(r"(\d+) requests in", output)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    p50, p99 = (milliseconds(re.search(rf"{percent}%\s+(\S+)", output)[1]) for percent in (50, 99))
    return requests, rate, p50, p99


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--cairn", type=pathlib.Path, default=target / "release" / "cairn")
    arguments = parser.parse_args()
    for program in ("nginx", "haproxy", "wrk"):
        if not shutil.which(program):
            sys.exit(f"{program} is missing: apt-get install nginx haproxy wrk")

    running = []
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        place.chmod(0o755)
        (place / "www").mkdir()
        (place / "www" / "file").write_text("x" * 128)
        (place / "equal.lua").write_text(EQUAL)
        backend, cores = free_port(), os.cpu_count()
        ports = {name: free_port() for name in ("nginx", "haproxy", "gateway")}

        def configured(name, template, port=0):
            file = place / name
            file.write_text(template.format(dir=place, backend=backend, port=port, cores=cores))
            return str(file)

        def start(*command, **more):
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, **more))
            return running[-1].pid

        try:
            start("nginx", "-c", configured("backend.conf", NGINX_BACKEND))
            wait_for(backend)
            environment = {**os.environ, "CAIRN_GATEWAY__HEALTH_PATH": "/file"}
            pids = {
                "nginx": start("nginx", "-c", configured("nginx.conf", NGINX, ports["nginx"])),
                "haproxy": start("haproxy", "-f", configured("haproxy.cfg", HAPROXY, ports["haproxy"])),
                "gateway": start(
                    str(arguments.cairn), "--data-dir", str(place / "data"), "gateway",
                    "--http", f"127.0.0.1:{ports['gateway']}", "--backend", f"127.0.0.1:{backend}", env=environment,
                ),
            }
            for name, port in ports.items():
                wait_for(port)
                load(port, 1)
            print(f"{cores} cores, {CONNECTIONS} connections, {arguments.rounds} rounds of {arguments.seconds} s")
            results = {name: [] for name in ports}
            for number in range(arguments.rounds):
                for name, port in ports.items():
                    before = cpu(pids[name])
                    requests, rate, _, full_p99 = load(port, arguments.seconds)
                    full = (cpu(pids[name]) - before) / requests * 1e6
                    before = cpu(pids[name])
                    paced, paced_rate, p50, p99 = load(port, arguments.seconds, str(place / "equal.lua"))
                    equal = (cpu(pids[name]) - before) / paced * 1e6
                    results[name].append((full, rate, full_p99, equal, paced_rate, p50, p99))
                    print(
                        f"round {number + 1} {name:8} full {full:6.1f} CPU s/M {rate:8.0f}/s p99 {full_p99:6.2f} ms"
                        f"   equal {equal:6.1f} CPU s/M {paced_rate:6.0f}/s p50 {p50:5.2f} p99 {p99:5.2f} ms",
                        flush=True,
                    )
            medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
            print("\nmedian    full CPU s/M  requests/s  p99 ms | equal CPU s/M  requests/s  p50 ms  p99 ms | MiB")
            for name, (full, rate, full_p99, equal, paced_rate, p50, p99) in medians.items():
                print(
                    f"{name:8} {full:13.1f} {rate:11.0f} {full_p99:7.2f} | {equal:13.1f} {paced_rate:11.0f} {p50:7.2f} {p99:7.2f}"
                    f" | {resident(pids[name]):.0f}"
                )
            for title, column in (("CPU at full load", 0), ("CPU at equal load", 3), ("p99 at equal load", 6)):
                better = min(medians["nginx"][column], medians["haproxy"][column])
                print(f"{title}: {medians['gateway'][column] / better:.2f} times the better one's")
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(20)


if __name__ == "__main__":
    main()
