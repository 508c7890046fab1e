#!/usr/bin/env python3
"""What a request of the REST interface costs: wrk against a Martlet of its own, on the loopback.

    ./rest.py --rounds 3 [--fleet]

CPU is the server's, user and system, per request. With --fleet, 1,000 devices of `mqload fleet` are connected, and the
p99 of a command's round trip is measured with and without requests beside them. MARTLET names the binary.
"""
import argparse
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.environ.get("MARTLET", os.path.join(HERE, "../.build/release/martlet"))
DEVICES = 100


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Martlet:
    """One that is stopped at the end of the block; everything that it writes goes with its directory. `lines`: more of its
    configuration."""

    def __init__(self, *lines):
        self.lines = lines

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="martlet-rest.")
        self.mqtt, self.http = free_port(), free_port()
        path = os.path.join(self.directory.name, "martlet.conf")
        with open(path, "w") as file:
            file.write(
                f"data_dir {self.directory.name}/data\nuser root\nregistration open\nlogin_attempts 1000\n"
                f"listener {self.mqtt} 127.0.0.1\nallow_anonymous true\n"
                f"listener {self.http} 127.0.0.1\nprotocol http\n" + "".join(line + "\n" for line in self.lines))
        self.log = open(os.path.join(self.directory.name, "log"), "w")
        self.process = subprocess.Popen([BINARY, "serve", "-c", path], stdout=self.log, stderr=self.log)
        end = time.monotonic() + 10
        while True:
            try:
                self.ask("GET", "/readyz")
                return self
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.close()
        self.directory.cleanup()

    def ask(self, method, path, body=None, token=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def cpu(self):
        """Seconds."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(martlet, name, path, token, connections, seconds):
    before = martlet.cpu()
    output = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-H", f"Authorization: Bearer {token}",
         f"http://127.0.0.1:{martlet.http}{path}"], check=True, capture_output=True, text=True).stdout
    count = int(re.search(r"(\d+) requests in", output)[1])
    cost = (martlet.cpu() - before) * 1e6 / count
    failed = re.search(r"Non-2xx.*", output)
    slowest = re.search(r"99%\s+(\S+)", output)[1]
    print(f"{name:<22} {cost:7.1f} us CPU  {count / seconds:9.0f}/s  p99 {slowest:>9}"
          + (f"  {failed[0]}" if failed else ""), flush=True)


def fleet(martlet, name, seconds):
    return subprocess.Popen(
        [os.path.join(HERE, "mqload"), "fleet", "--port", str(martlet.mqtt), "--clients", "1000", "--rate", "100",
         "--duration", str(seconds), "--max-time", "60", "--json"], stdout=subprocess.PIPE, text=True), name


def finish(run):
    process, name = run
    figures = json.loads(process.communicate(timeout=120)[0])
    print(f"{name:<22} command p50 {figures['lat_p50_us'] / 1000:.2f} ms, p99 {figures['lat_p99_us'] / 1000:.2f} ms, "
          f"host took {figures.get('steal_pct', 0):.0f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--fleet", action="store_true")
    options = parser.parse_args()
    account = {"email": "bench@example.com", "password": "secret 1"}
    with Martlet() as martlet:
        martlet.ask("POST", "/api/auth/register", account)
        token = martlet.ask("POST", "/api/auth/login", account)["token"]
        for number in range(DEVICES):
            martlet.ask("POST", "/api/device/register",
                        {"deviceId": f"D{number}", "name": f"Device {number}", "model": "esp32s3", "tags": ["bench"]}, token)
        for _ in range(options.rounds):
            wrk(martlet, "one device", "/api/device/D50", token, 16, options.seconds)
            wrk(martlet, "list of 100", "/api/device", token, 16, options.seconds)
            wrk(martlet, "who am I", "/api/auth/me", token, 16, options.seconds)
            wrk(martlet, "/healthz", "/healthz", token, 16, options.seconds)
            if options.fleet:
                finish(fleet(martlet, "fleet alone", options.seconds * 2))
                run = fleet(martlet, "fleet beside requests", options.seconds * 2)
                time.sleep(2)
                wrk(martlet, "one device, fleet", "/api/device/D50", token, 16, options.seconds * 2 - 3)
                finish(run)


if __name__ == "__main__":
    main()
