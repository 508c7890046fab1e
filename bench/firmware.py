#!/usr/bin/env python3
"""What it costs that a fleet loads firmware: devices fetch an image over HTTPS by their signed addresses, all at once, as fast as
it goes and slowly; and what that does to commands on their way to other devices.

    MARTLET=.build/release/martlet bench/firmware.py [--devices 500] [--bytes 1048576] [--slow 20000] [--rounds 3]

CPU is the server's, user and system, a full TLS handshake included. Memory is what the process has at most meanwhile, beyond
what it had before. The figures of a loop that also carries a thousand devices' messages come with --fleet.
"""
import argparse
import atexit
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import rest

sys.path.append(os.path.join(rest.HERE, "../examples"))
import image

MODEL = "esp32s3"
VERSION = "1.0.0"


def certificate():
    """Lines of a configuration, for a key of the kind that Martlet makes by itself."""
    directory = tempfile.mkdtemp(prefix="martlet-firmware.")
    key, chain = os.path.join(directory, "key.pem"), os.path.join(directory, "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=localhost", "-keyout", key, "-out", chain], check=True, capture_output=True)
    return directory, (f"certfile {chain}", f"keyfile {key}")


def martlet_command(martlet, *arguments):
    subprocess.run([rest.BINARY, *arguments, "--data", os.path.join(martlet.directory.name, "data")],
                   check=True, stdout=subprocess.DEVNULL)


def prepare(martlet, devices, size):
    """An image that devices shall run, and the target by which each of them fetches it."""
    path = os.path.join(martlet.directory.name, "app.bin")
    small = len(image.image(VERSION, "esp32s3", 0))
    with open(path, "wb") as file:
        file.write(image.image(VERSION, "esp32s3", (size - small) // 4 * 4))
    for step in ("upload", "approve", "promote"):
        martlet_command(martlet, "firmware", step, MODEL, VERSION, *([path] if step == "upload" else []))
    account = {"email": "bench@example.com", "password": "secret 1"}
    martlet.ask("POST", "/api/auth/register", account)
    token = martlet.ask("POST", "/api/auth/login", account)["token"]
    targets = []
    for number in range(devices):
        device = f"D{number}"
        answer = martlet.ask("POST", "/api/device/register", {"deviceId": device, "model": MODEL}, token)
        secret = answer["credentials"]["password"]
        request = urllib.request.Request(f"http://127.0.0.1:{martlet.http}/api/ota/{device}/check")
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{device}:{secret}".encode()).decode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            url = urllib.parse.urlsplit(json.load(answer)["url"])
        targets.append(f"{url.path}?{url.query}")
    list_path = os.path.join(martlet.directory.name, "targets")
    with open(list_path, "w") as file:
        file.write("".join(target + "\n" for target in targets))
    return list_path, os.path.getsize(path)


def memory(martlet, name):
    """Bytes."""
    with open(f"/proc/{martlet.process.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))


def fetch(martlet, port, targets, size, rate):
    with open(f"/proc/{martlet.process.pid}/clear_refs", "w") as file:
        file.write("5")  # The peak of memory begins anew.
    rss, cpu = memory(martlet, "VmRSS"), martlet.cpu()
    command = [os.path.join(rest.HERE, "fetch"), str(port), targets, str(size)] + ([str(rate)] if rate else [])
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    figures = json.loads(run.stdout)
    figures.update(cpu=martlet.cpu() - cpu, memory=memory(martlet, "VmHWM") - rss)
    return figures


def show(name, figures):
    count = figures["clients"]
    whole = "" if figures["whole"] == count else f"  ONLY {figures['whole']} WHOLE"
    print(f"{name:<22} {figures['seconds']:6.1f} s  {figures['bytes_per_s'] / 1e6:7.1f} MB/s  "
          f"{figures['cpu'] / count * 1e3:6.2f} ms CPU and {figures['memory'] / count / 1024:5.1f} KB each  "
          f"p50 {figures['p50_s']:.2f} s, p99 {figures['p99_s']:.2f} s  loader's CPU {figures['own_cpu_s']:.1f} s{whole}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"devices": 500, "bytes": 1 << 20, "slow": 20_000, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--fleet", action="store_true")
    options = parser.parse_args()
    port = rest.free_port()
    directory, lines = certificate()
    atexit.register(shutil.rmtree, directory)
    with rest.Martlet(f"listener {port} 127.0.0.1", "protocol http", *lines) as martlet:
        targets, size = prepare(martlet, options.devices, options.bytes)
        print(f"{options.devices} devices, {size} bytes each", flush=True)
        for _ in range(options.rounds):
            show("as fast as it goes", fetch(martlet, port, targets, size, 0))
            show(f"{options.slow / 1000:.0f} KB/s each", fetch(martlet, port, targets, size, options.slow))
            if not options.fleet:
                continue
            rest.finish(rest.fleet(martlet, "fleet alone", 10))
            fast = rest.fleet(martlet, "beside fast ones", 10)
            time.sleep(2)
            stop = threading.Event()
            rounds = []
            thread = threading.Thread(target=lambda: repeat(martlet, port, targets, size, stop, rounds))
            thread.start()
            rest.finish(fast)
            stop.set()
            thread.join()
            show(f"  one of {len(rounds)}", rounds[0])
            slow = []
            thread = threading.Thread(target=lambda: slow.append(fetch(martlet, port, targets, size, options.slow)))
            thread.start()
            time.sleep(3)  # Their handshakes are over: what these cost is seen beside the fast ones.
            rest.finish(rest.fleet(martlet, "beside slow ones", int(size / options.slow * 0.8)))
            thread.join()
            show("  the slow ones", slow[0])


def repeat(martlet, port, targets, size, stop, rounds):
    while not stop.is_set():
        rounds.append(fetch(martlet, port, targets, size, 0))


if __name__ == "__main__":
    main()
