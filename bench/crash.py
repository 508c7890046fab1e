#!/usr/bin/env python3
"""Kill MQTT brokers again and again, and count what they had acknowledged and lost.

    ./crash.py --rounds 20 --broker mosquitto-persistent --broker mosquitto-each-second --broker martlet-acknowledged

Publishers of QoS 1 and 2 and subscribers with persistent sessions, one of which is mostly away, keep their own ledger
and do what MQTT 3.1.1 makes a client do (4.4). A round ends with SIGKILL some 0.5 to 2.5 seconds after it began; the
next starts on the same directory. After the last one everybody comes back and takes what is there. Brokers are those
of compare.py.

lost: messages that were acknowledged (PUBACK, PUBREC) and did not come, over all subscribers. twice: messages of QoS 2
that came more than once. turned: messages that came, first, behind a later one of the same publisher. sessions: how
often a session that a broker had acknowledged was gone.
"""
import argparse
import collections
import os
import random
import socket
import struct
import tempfile
import threading
import time

import compare

WINDOW = 30
PUBLISHERS = [("one", 1), ("two", 2), ("three", 1), ("four", 2)]
SUBSCRIBERS = [("s1", 1), ("s2", 2), ("away", 2)]


def string(text):
    return struct.pack("!H", len(text)) + text.encode()


def packet(first, body):
    length, remaining = b"", len(body)
    while True:
        remaining, digit = divmod(remaining, 128)
        length += bytes([digit | (128 if remaining else 0)])
        if not remaining:
            return bytes([first]) + length + body


class Connection:
    """A socket, and the packets that come from it."""

    def __init__(self, port, client):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(10)
        self.stream = self.socket.makefile("rb")
        self.send(packet(0x10, string("MQTT") + bytes([4, 0, 0, 120]) + string(client)))
        answer = self.receive()[1]
        self.is_present = bool(answer[0])

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The first byte and the body; raises when the connection ends, or says nothing for ten seconds."""
        head = self.stream.read(1)
        if not head:
            raise ConnectionError
        length = shift = 0
        while True:
            digit = self.stream.read(1)[0]
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
        body = self.stream.read(length)
        if len(body) != length:
            raise ConnectionError
        return head[0], body

    def close(self):
        self.stream.close()
        self.socket.close()


ENDS = (OSError, IndexError, ValueError)


class Publisher:
    def __init__(self, name, qos):
        self.name, self.qos = name, qos
        self.latest = self.identifier = 0
        self.in_flight = collections.OrderedDict()  # identifier: [number, whether PUBREC has come]
        self.acknowledged = set()
        self.was_answered = False
        self.sessions_lost = 0

    def publish(self, identifier, number, is_duplicate):
        body = string("ledger/" + self.name) + struct.pack("!H", identifier) + f"{self.name} {number}".encode()
        return packet(0x30 | self.qos << 1 | (8 if is_duplicate else 0), body)

    def run(self, port, is_last=False):
        try:
            connection = Connection(port, self.name)
            if self.was_answered and not connection.is_present:
                self.sessions_lost += 1
            self.was_answered = True
            for identifier, (number, is_received) in self.in_flight.items():
                connection.send(packet(0x62, struct.pack("!H", identifier)) if is_received else self.publish(identifier, number, True))
            while not is_last or self.in_flight:
                while not is_last and len(self.in_flight) < WINDOW:
                    self.latest += 1
                    self.identifier = self.identifier % 65535 + 1
                    self.in_flight[self.identifier] = [self.latest, False]
                    connection.send(self.publish(self.identifier, self.latest, False))
                first, body = connection.receive()
                identifier = struct.unpack("!H", body[:2])[0]
                if identifier not in self.in_flight:
                    continue
                self.acknowledged.add(self.in_flight[identifier][0])
                if first >> 4 == 5:
                    self.in_flight[identifier][1] = True
                    connection.send(packet(0x62, body[:2]))
                else:
                    del self.in_flight[identifier]
            connection.close()
        except ENDS:
            pass


class Subscriber:
    def __init__(self, name, qos):
        self.name, self.qos = name, qos
        self.is_subscribed = False
        self.unreleased = set()
        self.counts = collections.Counter()
        self.order = collections.defaultdict(list)
        self.sessions_lost = 0
        self.ready = threading.Event()

    def run(self, port, is_over=lambda: False):
        try:
            connection = Connection(port, self.name)
            if self.is_subscribed and not connection.is_present:
                self.sessions_lost += 1
                self.unreleased.clear()  # 4.1: the client's session ends with the server's.
            if not connection.is_present:
                connection.send(packet(0x82, struct.pack("!H", 1) + string("ledger/#") + bytes([self.qos])))
            connection.socket.settimeout(2 if is_over else 10)
            while not is_over():
                first, body = connection.receive()
                if first >> 4 == 9:
                    self.is_subscribed = True
                    self.ready.set()
                elif first >> 4 == 3:
                    self.take(connection, first, body)
                elif first >> 4 == 6:
                    self.unreleased.discard(body[:2])
                    connection.send(packet(0x70, body[:2]))
            connection.close()
        except ENDS:
            pass

    def take(self, connection, first, body):
        qos, topic = first >> 1 & 3, struct.unpack("!H", body[:2])[0]
        identifier, text = body[2 + topic:4 + topic], body[4 + topic:].decode()
        if qos == 1 or identifier not in self.unreleased:
            name, number = text.split()
            if not self.counts[text]:
                self.order[name].append(int(number))
            self.counts[text] += 1
        if qos == 2:
            self.unreleased.add(identifier)
        connection.send(packet(0x40 if qos == 1 else 0x50, identifier))


def all_at_once(*bodies):
    threads = [threading.Thread(target=body, daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(spec, rounds, seed, where, certificates):
    dice = random.Random(seed)
    publishers = [Publisher(*each) for each in PUBLISHERS]
    subscribers = [Subscriber(*each) for each in SUBSCRIBERS]
    for round in range(rounds):
        broker = compare.Broker(spec, where, certificates, [], False)
        present = subscribers if round == 0 else [each for each in subscribers if each.name != "away" or round % 5 == 0]

        def end():
            for each in present:
                each.ready.wait(10)
            time.sleep(dice.uniform(0.5, 2.5))
            for pid in broker.pids:
                os.kill(pid, 9)
            broker.process.wait()

        def publish(publisher):
            for each in present:
                each.ready.wait(10)
            publisher.run(broker.port)

        all_at_once(end, *(lambda each=each: each.run(broker.port) for each in present),
                    *(lambda each=each: publish(each) for each in publishers))
    broker = compare.Broker(spec, where, certificates, [], False)
    all_at_once(*(lambda each=each: each.run(broker.port, is_last=True) for each in publishers))
    # Silence of two seconds is the end of what a broker has.
    all_at_once(*(lambda each=each: each.run(broker.port, is_over=lambda: False) for each in subscribers))
    broker.stop()

    lost = twice = turned = 0
    for subscriber in subscribers:
        for publisher in publishers:
            order = subscriber.order[publisher.name]
            lost += len(publisher.acknowledged.difference(order))
            latest = 0
            for number in order:
                turned += number < latest
                latest = max(latest, number)
            if min(publisher.qos, subscriber.qos) == 2:
                twice += sum(subscriber.counts[f"{publisher.name} {number}"] > 1 for number in order)
    acknowledged = sum(len(each.acknowledged) for each in publishers)
    sessions = sum(each.sessions_lost for each in publishers + subscribers)
    return acknowledged, lost, twice, turned, sessions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", action="append", required=True, choices=sorted(compare.BROKERS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=20, help="kills (20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", help="on the file system to be tried (a tmpfs is no disk)")
    arguments = parser.parse_args()
    print(f"{'broker':<24}{'acknowledged':>14}{'lost':>12}{'twice':>8}{'turned':>8}{'sessions':>10}")
    for name in arguments.broker:
        with tempfile.TemporaryDirectory(dir=arguments.dir) as where, tempfile.TemporaryDirectory() as keys:
            figures = run(compare.BROKERS[name], arguments.rounds, arguments.seed, where, compare.make_certificates(keys, "ec"))
        print(f"{name:<24}{figures[0]:>14,}{figures[1]:>12,}{figures[2]:>8,}{figures[3]:>8,}{figures[4]:>10,}", flush=True)


if __name__ == "__main__":
    main()
