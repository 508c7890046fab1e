#!/usr/bin/env python3
"""What a flood that has to get to the disk does to those who need no disk: the p99 of clean QoS 0 sessions without it, beside it,
and beside the same flood where nothing is written.

    MARTLET=.build/release/martlet bench/beside.py [--rounds 5] [--seconds 8] [--flood 10000] [--rate 2000]
"""
import argparse
import json
import os
import statistics
import subprocess
import time

import rest


def load(martlet, topic, *arguments):
    return subprocess.Popen(
        [os.path.join(rest.HERE, "mqload"), "pubsub", "--port", str(martlet.mqtt), "--clients", "10", "--json", "--stall", "30",
         "--topic", topic, *arguments], stdout=subprocess.PIPE, text=True)


def figures(process):
    found = json.loads(process.communicate(timeout=120)[0])
    if process.returncode:
        raise SystemExit(f"mqload does not count this run: {found}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"rounds": 5, "seconds": 8, "flood": 10_000, "rate": 2_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    found = {}

    def note(name, run):
        found.setdefault(name, []).append(run["lat_p99_us"] / 1000)
        print(f"{name:<32} p50 {run['lat_p50_us'] / 1000:5.2f} ms, p99 {run['lat_p99_us'] / 1000:6.2f} ms, "
              f"{run['throughput']:.0f}/s, host took {run.get('steal_pct', 0):.0f} %", flush=True)

    for _ in range(options.rounds):
        for durability in ("memory", "acknowledged"):
            with rest.Martlet(f"durability {durability}", "max_inflight_messages 0", "max_queued_messages 0") as martlet:
                def measure():
                    return load(martlet, "clean", "--qos", "0", "--rate", str(options.rate), "--duration", str(options.seconds))

                if durability == "memory":
                    note("alone", figures(measure()))
                flood = load(martlet, "flood", "--qos", "2", "--persistent", "--rate", str(options.flood), "--duration",
                             str(options.seconds + 4))
                time.sleep(2)
                note(f"beside a flood, {durability}", figures(measure()))
                run = figures(flood)
                print(f"  the flood: p99 {run['lat_p99_us'] / 1000:.1f} ms, {run['throughput']:.0f}/s", flush=True)
    for name, values in found.items():
        print(f"{name:<32} median p99 {statistics.median(values):.2f} ms of {', '.join(f'{value:.2f}' for value in sorted(values))}")


if __name__ == "__main__":
    main()
