"""The broker as paho-mqtt sees it: `cases.py CASE PORT [websockets]` exits 0 if that case holds.

Every wait is for an event with a deadline; every case uses topics and client identifiers of its own.
"""
import os
import queue
import socket
import sys
import threading

import paho.mqtt.client as mqtt

PORT = 0
TRANSPORT = "tcp"
DEADLINE = 20 * float(os.environ.get("MARTLET_TEST_PATIENCE", "1"))


class Client:
    """A connected paho client on its own thread, whose messages come out of a queue."""

    def __init__(self, identifier="", clean=True, manual_ack=False, will=None, in_flight=20, keep_alive=60):
        self.messages, self.connected, self.gone = queue.Queue(), threading.Event(), threading.Event()
        self.granted, self.flags = queue.Queue(), None
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, identifier, clean_session=clean, manual_ack=manual_ack,
                                transport=TRANSPORT, reconnect_on_failure=False)
        self.paho.max_queued_messages_set(0)
        self.paho.max_inflight_messages_set(in_flight)
        self.paho.on_message = lambda client, data, message: self.messages.put(message)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = lambda *_: self.gone.set()
        self.paho.on_subscribe = lambda client, data, mid, codes, properties: self.granted.put([c.value for c in codes])
        self.paho.on_unsubscribe = lambda client, data, mid, codes, properties: self.granted.put(None)
        if will:
            self.paho.will_set(**will)
        self.paho.connect("127.0.0.1", PORT, keepalive=keep_alive)
        self.paho.loop_start()
        assert self.connected.wait(DEADLINE), "no CONNACK"

    def _on_connect(self, client, data, flags, reason, properties):
        assert not reason.is_failure, reason
        self.flags = flags
        self.connected.set()

    def subscribe(self, *filters):
        self.paho.subscribe(list(filters))
        return self.granted.get(timeout=DEADLINE)

    def publish(self, topic, payload=b"", qos=0, retain=False):
        sent = self.paho.publish(topic, payload, qos, retain)
        sent.wait_for_publish(DEADLINE)
        assert sent.is_published(), f"{topic} not acknowledged"

    def next(self):
        return self.messages.get(timeout=DEADLINE)

    def take(self, count):
        return [self.next() for _ in range(count)]

    def drain(self):
        """Everything up to a message to itself, which comes after all that was on its way."""
        mark = f"mark/{id(self)}"
        self.subscribe((mark, 0))
        self.publish(mark)
        return list(iter(lambda: (m := self.next()).topic != mark and m or None, None))

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()

    def vanish(self):
        """Ends the connection without DISCONNECT."""
        connection = self.paho.socket()
        # Of a WebSocket paho shows a wrapper, whose own shutdown is a Close.
        getattr(connection, "_socket", connection).shutdown(socket.SHUT_RDWR)
        assert self.gone.wait(DEADLINE)
        self.paho.loop_stop()


def expect(actual, wanted):
    assert actual == wanted, f"{actual!r} is not {wanted!r}"


def qos_matrix():
    """The lower of both sides' QoS [MQTT-3.8.4-6]."""
    publisher = Client()
    for subscribed in range(3):
        subscriber = Client()
        expect(subscriber.subscribe(("matrix/#", subscribed)), [subscribed])
        for published in range(3):
            publisher.publish(f"matrix/{published}", f"{published} to {subscribed}", published)
            message = subscriber.next()
            expect((message.topic, message.payload.decode(), message.qos, message.retain),
                   (f"matrix/{published}", f"{published} to {subscribed}", min(published, subscribed), False))
        expect(subscriber.drain(), [])
        subscriber.close()
    publisher.close()


def ordered_qos_2():
    """A thousand messages, each once, in order [MQTT-4.6.0-6]."""
    subscriber, publisher = Client(), Client()
    subscriber.subscribe(("ordered", 2))
    sent = [publisher.paho.publish("ordered", str(n), 2) for n in range(1000)]
    for message in sent:
        message.wait_for_publish(DEADLINE)
    expect([int(m.payload) for m in subscriber.take(1000)], list(range(1000)))
    expect(subscriber.drain(), [])


def many_in_flight():
    """Both directions of QoS 1 at once, with large windows."""
    one, other = Client(in_flight=500), Client(in_flight=500)
    one.subscribe(("to/one", 1))
    other.subscribe(("to/other", 1))
    for n in range(2000):
        one.paho.publish("to/other", str(n), 1)
        other.paho.publish("to/one", str(n), 1)
        if n % 500 == 499:                               # within the default queue of a subscriber
            expect([int(m.payload) for m in one.take(500)], list(range(n - 499, n + 1)))
            expect([int(m.payload) for m in other.take(500)], list(range(n - 499, n + 1)))


def takeover():
    """The earlier connection is closed [MQTT-3.1.4-2], and its will published."""
    watcher = Client()
    watcher.subscribe(("takeover/will", 1))
    first = Client("same", clean=False, will={"topic": "takeover/will", "payload": "first", "qos": 1})
    first.subscribe(("takeover/topic", 1))
    second = Client("same", clean=False)
    assert first.gone.wait(DEADLINE), "the first connection stays"
    expect(second.flags.session_present, True)
    expect(watcher.next().payload, b"first")
    watcher.publish("takeover/topic", "to the second", 1)
    expect(second.next().payload, b"to the second")
    expect(first.messages.qsize(), 0)


def redelivery():
    """What was not acknowledged comes again, with DUP, in order [MQTT-4.4.0-1]; with cleanSession it is gone [MQTT-3.1.2-6]."""
    publisher = Client()
    first = Client("keeper", clean=False, manual_ack=True)
    expect(first.flags.session_present, False)
    first.subscribe(("kept/#", 1))
    for n in range(5):
        publisher.publish(f"kept/{n}", str(n), 1)
    expect([(m.topic, m.dup) for m in first.take(5)], [(f"kept/{n}", False) for n in range(5)])
    first.vanish()
    publisher.publish("kept/5", "5", 1)

    second = Client("keeper", clean=False)
    expect(second.flags.session_present, True)
    expect([(m.topic, m.dup) for m in second.take(6)], [(f"kept/{n}", n < 5) for n in range(6)])
    expect(second.drain(), [])
    second.close()

    clean = Client("keeper", clean=True)
    expect(clean.flags.session_present, False)
    publisher.publish("kept/6", "6", 1)
    expect(clean.drain(), [])
    clean.close()
    expect(Client("keeper", clean=False).flags.session_present, False)


def large_payload():
    subscriber, publisher = Client(), Client()
    payload = os.urandom(1 << 20)
    for qos in range(3):
        subscriber.subscribe((f"large/{qos}", qos))
        publisher.publish(f"large/{qos}", payload, qos)
        message = subscriber.next()
        expect((message.qos, len(message.payload), message.payload == payload), (qos, len(payload), True))


def wildcards():
    """4.7.1: `+` is one level, `#` any number and the parent; neither at the start matches `$` [MQTT-4.7.2-1]."""
    topics = ["a", "a/", "/a", "a/b", "a//b", "a/b/c", "a/b/c/d", "$a/b", "b"]
    table = {
        "#": ["a", "a/", "/a", "a/b", "a//b", "a/b/c", "a/b/c/d", "b"],
        "+": ["a", "b"],
        "+/+": ["a/", "/a", "a/b"],
        "/+": ["/a"],
        "a/#": ["a", "a/", "a/b", "a//b", "a/b/c", "a/b/c/d"],
        "a/+": ["a/", "a/b"],
        "a/+/b": ["a//b"],
        "a/+/c": ["a/b/c"],
        "+/b/#": ["a/b", "a/b/c", "a/b/c/d"],
        "a/b/+/d": ["a/b/c/d"],
        "$a/#": ["$a/b"],
        "$a/+": ["$a/b"],
    }
    publisher = Client()
    for filter, wanted in table.items():
        subscriber = Client()
        subscriber.subscribe((filter, 0))
        for topic in topics:
            publisher.publish(topic, "", 1)              # acknowledged: routed before the mark
        # The mark of drain() also matches filters such as "#": keep only the table's topics.
        got = [m.topic for m in subscriber.drain() if m.topic in topics]
        assert got == wanted, f"{filter}: {got}, not {wanted}"
        subscriber.close()


def overlapping_subscriptions():
    """One copy at the highest granted QoS [MQTT-3.3.5-1]."""
    subscriber, publisher = Client(), Client()
    expect(subscriber.subscribe(("over/#", 0), ("over/+", 2), ("over/lap", 1)), [0, 2, 1])
    publisher.publish("over/lap", "x", 2)
    expect([(m.topic, m.qos) for m in subscriber.drain()], [("over/lap", 2)])
    subscriber.subscribe(("over/+", 0))                  # replaces [MQTT-3.8.4-3]
    publisher.publish("over/lap", "y", 2)
    expect([(m.topic, m.qos) for m in subscriber.drain()], [("over/lap", 1)])


def unicode_topics():
    subscriber, publisher = Client(), Client()
    subscriber.subscribe(("wörld/+/🦜", 1))
    for name in ["Ω", "ﻚ", "日本語", "e\u0301", "\ufeffx", " "]:
        publisher.publish(f"wörld/{name}/🦜", name, 1)
        message = subscriber.next()
        expect((message.topic, message.payload.decode()), (f"wörld/{name}/🦜", name))


def retained():
    """RETAIN is set for a new subscription only [MQTT-3.3.1-8, -9]; each topic keeps its last."""
    publisher, live = Client(), Client()
    live.subscribe(("kept/#", 1))
    for value in ("old", "new"):
        publisher.publish("kept/a", value, 1, retain=True)
        expect((lambda m: (m.payload.decode(), m.retain))(live.next()), (value, False))
    publisher.publish("kept/b", "b", 2, retain=True)
    late = Client()
    late.subscribe(("kept/+", 1))
    expect(sorted((m.topic, m.payload, m.qos, m.retain) for m in late.take(2)),
           [("kept/a", b"new", 1, True), ("kept/b", b"b", 1, True)])
    late.subscribe(("kept/a", 1))                        # again, and after a repetition [MQTT-3.8.4-3]
    expect(late.next().topic, "kept/a")
    late.subscribe(("kept/a", 1))
    expect(late.next().topic, "kept/a")


def will():
    """Published when the connection ends without DISCONNECT [MQTT-3.1.2-8], not after one [MQTT-3.1.2-10], and retained if asked."""
    watcher = Client()
    watcher.subscribe(("will/#", 2))
    Client(will={"topic": "will/polite", "payload": "no"}).close()
    Client(will={"topic": "will/rude", "payload": "yes", "qos": 2, "retain": True}).vanish()
    message = watcher.next()
    expect((message.topic, message.payload, message.qos), ("will/rude", b"yes", 2))
    late = Client()
    late.subscribe(("will/#", 0))
    message = late.next()
    expect((message.topic, message.retain), ("will/rude", True))


def unsubscribe():
    """No more after UNSUBACK [MQTT-3.10.4-2]; the other filters stay."""
    subscriber, publisher = Client(), Client()
    subscriber.subscribe(("one/#", 1), ("two/+", 1))
    subscriber.paho.unsubscribe(["one/#", "never/subscribed"])
    subscriber.granted.get(timeout=DEADLINE)
    publisher.publish("one/x", "", 1)
    publisher.publish("two/x", "", 1)
    expect([m.topic for m in subscriber.drain()], ["two/x"])


def keep_alive():
    """Who pings stays, for three of its keep-alives; who falls silent is closed within two [MQTT-3.1.2-24]."""
    watcher = Client()
    watcher.subscribe(("alive/#", 1))
    pinging = Client(will={"topic": "alive/pinging", "payload": "gone"}, keep_alive=1)
    silent = Client(will={"topic": "alive/silent", "payload": "gone"}, keep_alive=1)
    silent.paho.loop_stop()                              # nobody sends PINGREQ any more
    expect(watcher.next().topic, "alive/silent")
    assert not pinging.gone.wait(3), "who pings is closed"
    expect(watcher.drain(), [])
    pinging.close()


def large_packets():
    """Payloads about the bounds of a frame's length and of paho's own reads."""
    subscriber, publisher = Client(), Client()
    subscriber.subscribe(("sized/#", 2))
    for size in [0, 1, 100, 110, 125, 126, 127, 128, 65_500, 65_520, 65_535, 65_536, 65_537, 300_000]:
        payload = os.urandom(size)
        for qos in range(3):
            publisher.publish("sized/x", payload, qos)
            message = subscriber.next()
            expect((message.qos, message.payload == payload), (qos, True))
    expect(subscriber.drain(), [])


if __name__ == "__main__":
    PORT = int(sys.argv[2])
    TRANSPORT = (sys.argv[3:] or ["tcp"])[0]
    globals()[sys.argv[1]]()
    os._exit(0)                                          # clients left open have threads of their own
