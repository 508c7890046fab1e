#!/usr/bin/env python3
"""What taking devices' health costs: a flood of health messages to a broker that manages the devices, and the same flood to
one that does not; then the dashboard over all of them.

    MARTLET=.build/release/martlet bench/health.py [--devices 1000] [--rate 5000] [--seconds 20] [--rounds 2]
"""
import argparse
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request

MARTLET = os.environ.get("MARTLET", ".build/release/martlet")
CONNECTIONS = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def string(text):
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def packet(first, body):
    length, remaining = b"", len(body)
    while True:
        byte, remaining = remaining % 128, remaining // 128
        length += bytes([byte | (128 if remaining else 0)])
        if not remaining:
            return bytes([first]) + length + body


class Broker:
    def __init__(self, managed):
        self.directory = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.port, self.http = free_port(), free_port()
        lines = ["user root", "log_type error", "shards 1", f"listener {self.port} 127.0.0.1", "allow_anonymous true"]
        if managed:
            lines = [f"data_dir {self.directory.name}/data", "registration open"] + lines
            lines += [f"listener {self.http} 127.0.0.1", "protocol http"]
        with open(f"{self.directory.name}/martlet.conf", "w") as file:
            file.write("\n".join(lines) + "\n")
        self.log = open(f"{self.directory.name}/log", "w")
        self.process = subprocess.Popen([MARTLET, "serve", "-c", file.name], stderr=self.log)
        self.await_port(self.port)
        while managed and not self.is_ready():
            time.sleep(0.02)

    def is_ready(self):
        try:
            return b"ok" in self.ask("GET", "/readyz")
        except OSError:
            return False

    def await_port(self, port):
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self):
        with open(f"/proc/{self.process.pid}/io") as file:
            return int(dict(line.split(": ") for line in file)["write_bytes"])

    def ask(self, method, path, token=None, body=None, kind="application/json"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=body, method=method)
        request.add_header("Content-Type", kind)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def register(self, devices):
        with open(f"{self.directory.name}/data/first-admin") as file:
            email, password = file.read().split()
        log_in = lambda word: json.loads(self.ask(
            "POST", "/api/auth/login", body=json.dumps({"email": email, "password": word}).encode()))["token"]
        token = log_in(password)
        body = {"currentPassword": password, "newPassword": "correct horse"}
        self.ask("POST", "/api/auth/password", token, json.dumps(body).encode())
        table = "deviceId\n" + "".join(f"D{n}\n" for n in range(devices))
        self.ask("POST", "/api/admin/devices/import", token, table.encode(), "text/csv")
        return token

    def stop(self):
        self.process.terminate()
        self.process.wait(15)
        self.log.close()
        self.directory.cleanup()


def flood(port, devices, rate, seconds):
    connections = []
    for number in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(packet(0x10, string("MQTT") + bytes([4, 2, 0, 0]) + string(f"flood{number}")))
        connection.recv(4)
        connections.append(connection)
    start, sent = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        due = int(now * rate)
        batches = [b""] * CONNECTIONS
        for number in range(sent, due):
            payload = json.dumps({"heap": 20000 + number % 977, "uptime": number, "fw": "1.0.0", "temp": number % 40})
            batches[number % CONNECTIONS] += packet(
                0x30, string(f"devices/D{number % devices}/health") + payload.encode())
        sent = due
        for connection, batch in zip(connections, batches):
            if batch:
                connection.sendall(batch)
        time.sleep(0.02)
    for connection in connections:
        connection.close()
    return sent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"devices": 1000, "rate": 5000, "seconds": 20, "rounds": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    for _ in range(options.rounds):
        for managed in (False, True):
            broker = Broker(managed)
            try:
                token = broker.register(options.devices) if managed else None
                time.sleep(1)
                cpu, written = broker.cpu(), broker.written()
                sent = flood(broker.port, options.devices, options.rate, options.seconds)
                time.sleep(2)
                used, wrote = broker.cpu() - cpu, broker.written() - written
                line = f"{'managed' if managed else 'plain':8} {sent} messages, {used / sent * 1e6:.1f} us each, {wrote / sent:.2f} MB written per million"
                if managed:
                    times = []
                    for _ in range(50):
                        begin = time.monotonic()
                        answer = json.loads(broker.ask("GET", "/api/dashboard", token))
                        times.append(time.monotonic() - begin)
                    totals = answer["totals"]
                    line += f"; dashboard of {totals['devices']} devices, {totals['online']} online: median {sorted(times)[25] * 1000:.1f} ms, worst {max(times) * 1000:.1f} ms"
                print(line, flush=True)
            finally:
                broker.stop()


if __name__ == "__main__":
    main()
