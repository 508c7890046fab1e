"""HTTP byte by byte: connections that last, requests that are none, peers that are slow, stall, or never read."""
import json
import os
import random
import signal
import socket
import threading
import time

from support import (DATA, DEADLINE, MQTT_PORT, PASSWORD, PATIENCE, PID, PORT, Ended, Web, admin, ask, connection, database,
                     eventually, expect, next_number, processor_seconds, register, request, resident_megabytes)

HOST = f"Host: 127.0.0.1:{PORT}\r\n"
IS_SANITIZED = bool(os.environ.get("REST_SANITIZED"))


def registration(email):
    return request("POST", "/api/auth/register", body={"email": email, "password": PASSWORD})


def exists(email):
    with database() as base:
        return base.execute("SELECT count(*) FROM user WHERE email = ?", (email,)).fetchone()[0] == 1


def lives():
    expect(ask("GET", "/healthz")[0], 200)


def keep_alive():
    """A connection serves many requests; HTTP/1.0's one, unless it asks."""
    web = Web()
    for number in range(500):
        method = ["GET", "HEAD", "PUT", "OPTIONS"][number % 4]
        status, fields, body = web.send(request(method, "/healthz")).answer(is_head=method == "HEAD")
        expect(status, [200, 200, 405, 204][number % 4])
        assert "connection" not in fields or fields["connection"].lower() == "keep-alive", fields
    web.send(request("GET", "/healthz", fields=["Connection: close"]))
    expect(web.answer()[1]["connection"].lower(), "close")
    expect(web.closed(), b"")
    old = Web().send(b"GET /healthz HTTP/1.0\r\n\r\n")
    expect(old.answer()[0], 200)
    expect(old.closed(), b"")
    old = Web()
    for _ in range(2):
        status, fields, _ = old.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer()
        expect((status, fields["connection"].lower()), (200, "keep-alive"))


def pipelining():
    """Answers come in the order of the requests, however these are cut, and also where they take long."""
    requests, wanted = b"", []
    emails = [f"pipe{next_number()}@x" for _ in range(3)]
    for number in range(60):
        if number % 20 == 7:
            requests += registration(emails[number // 20])         # Takes a third of a second.
            wanted.append(201)
        else:
            method, path, status = random.Random(number).choice(
                [("GET", "/healthz", 200), ("GET", "/nothing", 404), ("PUT", "/healthz", 405), ("HEAD", "/healthz", 200),
                 ("GET", "/api/auth/me", 401), ("OPTIONS", "/x", 204)])
            requests += request(method, path)
            wanted.append((method, status))
    for size in [len(requests), 1000, 97, 1]:
        web = Web()

        def write():
            for start in range(0, len(requests), size):
                web.send(requests[start:start + size])
        writing = threading.Thread(target=write)
        writing.start()
        for one in wanted:
            method, status = one if isinstance(one, tuple) else ("POST", one)
            found = web.answer(is_head=method == "HEAD")[0]
            assert found == status or (status == 201 and found == 409), (found, one, size)
        writing.join()
        web.close()
    assert all(exists(email) for email in emails)


def half_close():
    """Who says that nothing more comes gets what was asked for before, and then the end."""
    for count in [1, 2, 40]:
        web = Web().send(request("GET", "/healthz") * (count - 1) + registration(f"half{next_number()}@x"))
        web.sock.shutdown(socket.SHUT_WR)
        for _ in range(count - 1):
            expect(web.answer()[0], 200)
        expect(web.answer()[0], 201)
        expect(web.closed(), b"")
    # In the middle of a request there is nothing to answer.
    for data in [b"GET /heal", request("GET", "/healthz")[:-2], registration("cut@x")[:-5]]:
        web = Web().send(data)
        web.sock.shutdown(socket.SHUT_WR)
        expect(web.closed(), b"")
    assert not exists("cut@x")
    web = Web().send(request("GET", "/healthz") + b"GET /x HT")
    web.sock.shutdown(socket.SHUT_WR)
    expect(web.answer()[0], 200)
    expect(web.closed(), b"")


def expect_continue():
    """Whoever waits to be asked for the body is, or learns at once that nobody wants it."""
    email = f"continue{next_number()}@x"
    data = registration(email)
    head, body = data.split(b"\r\n\r\n")
    web = Web().send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    expect(web.answer()[0], 100)
    web.send(body)
    expect(web.answer()[0], 201)
    # Sent without waiting.
    web.send(head + b"\r\nExpect: 100-continue\r\n\r\n" + body)
    status = web.answer()[0]
    if status == 100:
        status = web.answer()[0]
    expect(status, 409)
    # Refused before the body: then it must not be taken for a request.
    web = Web().send(request("POST", "/api/device/register", fields=["Expect: 100-continue", "Content-Length: 100"]))
    status, fields, _ = web.answer()
    expect((status, fields["connection"].lower()), (401, "close"))
    web.send(registration("hidden-continue@x")[:100])
    expect(web.closed(), b"")
    assert not exists("hidden-continue@x")
    web = Web().send(request("POST", "/api/auth/login", fields=["Expect: tea"]))
    expect(web.answer()[0], 417)


def chunked():
    """Bodies in chunks, of any size, with extensions and trailers."""
    body = json.dumps({"email": "nobody@x", "password": PASSWORD}).encode()
    head = request("POST", "/api/auth/login", fields=["Content-Type: application/json", "Transfer-Encoding: chunked"])
    for size in [1, 2, 7, len(body)]:
        chunks = b"".join(b"%x;a=b;c=\"d\"\r\n%s\r\n" % (len(body[at:at + size]), body[at:at + size])
                          for at in range(0, len(body), size))
        for trailers in [b"", b"X-Sum: 1\r\nY: 2\r\n"]:
            data = head + chunks + b"0\r\n" + trailers + b"\r\n" + request("GET", "/healthz")
            web = Web()
            for cut in range(0, len(data), 50 if size > 1 else len(data)):
                web.send(data[cut:cut + (50 if size > 1 else len(data))])
            expect(web.answer()[0], 401, f"chunks of {size}")
            expect(web.answer()[0], 200, "what follows")
            web.close()
    # Without an end it is too large sooner or later.
    web = Web()
    try:
        for _ in range(100):
            web.send((head if not _ else b"") + b"4000\r\n" + b" " * 0x4000 + b"\r\n")
    except OSError:
        pass
    try:
        expect(web.answer()[0], 413)
    except Ended:
        pass


def hidden(before):
    """Sends a request with another one hidden in it; the other must not be done. Returns the status, if there is an answer."""
    email = f"smuggled{next_number()}@x"
    web = Web()
    data = before(registration(email))
    try:
        web.send(data)
        web.sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    try:
        status, fields, _ = web.answer()
    except Ended:
        return None, email
    assert fields.get("connection", "").lower() == "close", (status, data[:200])
    expect(web.closed(), b"", f"a second answer to {data[:200]}")
    return status, email


def smuggling():
    """Whatever two readers could cut differently is refused, and the connection with it: what is hidden inside is not done."""
    def post(fields, body=b""):
        return f"POST /api/auth/login HTTP/1.1\r\n{HOST}{fields}\r\n".encode() + body

    cases = {
        "CL and TE": lambda inner: post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + inner),
        "TE and CL": lambda inner: post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + inner),
        "TE twice": lambda inner: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n" + inner),
        "TE, TE": lambda inner: post("Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + inner),
        "chunked twice": lambda inner: post("Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n" + inner),
        "xchunked": lambda inner: post("Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + inner),
        "quoted chunked": lambda inner: post('Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n" + inner),
        "TE with a tab": lambda inner: post("Transfer-Encoding:\x0bchunked\r\nContent-Length: 0\r\n", inner),
        "a blank before the colon": lambda inner: post("Content-Length : 5\r\nX: y\r\n", b"abcde" + inner),
        "a folded TE": lambda inner: post("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", inner),
        "obsolete folding": lambda inner: post("X: y\r\n\tz\r\nContent-Length: 0\r\n", inner),
        "a folded length": lambda inner: post("Content-Length:\r\n 0\r\n", inner),
        "two lengths": lambda inner: post("Content-Length: 0\r\nContent-Length: 5\r\n", inner),
        "the same twice": lambda inner: post("Content-Length: 0\r\nContent-Length: 0\r\n", inner),
        "a list of lengths": lambda inner: post("Content-Length: 0, 5\r\n", inner),
        "a list of the same": lambda inner: post("Content-Length: 0, 0\r\n", inner),
        "a signed length": lambda inner: post("Content-Length: +0\r\n", inner),
        "a negative length": lambda inner: post("Content-Length: -1\r\n", inner),
        "a length in hex": lambda inner: post("Content-Length: 0x0\r\n", inner),
        "a length with a blank inside": lambda inner: post("Content-Length: 0 0\r\n", inner),
        "an empty length": lambda inner: post("Content-Length: \r\n", inner),
        "a length of 2^64": lambda inner: post("Content-Length: 18446744073709551616\r\n", inner),
        "a line feed alone ends a field": lambda inner: post("X: y\nContent-Length: 0\r\n", inner),
        "a line feed alone ends the head": lambda inner: f"POST /api/auth/login HTTP/1.1\r\n{HOST}\n".encode() + inner,
        "carriage returns alone": lambda inner: post("X: y\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + inner),
        "a NUL in a field": lambda inner: post("X: y\0\r\nContent-Length: 0\r\n", inner),
        "no colon": lambda inner: post("Content-Length\r\n", inner),
        "an empty name": lambda inner: post(": 0\r\n", inner),
        "two Hosts": lambda inner: post(f"{HOST}Content-Length: 0\r\n", inner),
        "HTTP/1.0 and chunked": lambda inner: (
            b"POST /api/auth/login HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n" + inner),
        "HTTP/1.2": lambda inner: f"GET /healthz HTTP/2.2\r\n{HOST}\r\n".encode() + inner,
        "a blank in the target": lambda inner: f"GET /health z HTTP/1.1\r\n{HOST}\r\n".encode() + inner,
        "a name with a blank": lambda inner: post("Content-Length x: 0\r\n", inner),
        "an upgrade that is none": lambda inner: post("Upgrade: h2c\r\nContent-Length: 18446744073709551610\r\n", inner),
    }
    te = "Transfer-Encoding: chunked\r\n"
    for name, size in {
        "a signed size": b"+0", "a size in 0x": b"0x0", "a blank before the size": b" 0", "no size": b"", "a size of words": b"g",
        "a negative size": b"-1", "a size of 2^64": b"10000000000000000", "a size of many digits": b"0" * 40,
        "a NUL in the size": b"0\0",
    }.items():
        cases[name] = lambda inner, size=size: post(te, size + b"\r\n\r\n" + inner)
    cases |= {
        "a size that a line feed ends": lambda inner: post(te, b"0\n\n" + inner),
        "a chunk longer than it says": lambda inner: post(te, b"1\r\nabc\r\n0\r\n\r\n" + inner),
        "a chunk without its end": lambda inner: post(te, b"1\r\na0\r\n\r\n" + inner),
        "a chunk that a line feed ends": lambda inner: post(te, b"1\r\na\n0\r\n\r\n" + inner),
        "an extension with a line feed": lambda inner: post(te, b"0;x\n\r\n\r\n" + inner),
        "a trailer with a length": lambda inner: post(te, b"0\r\nContent-Length: 9 9\r\n bad: x\r\n\r\n" + inner),
    }
    statuses = {name: hidden(make) for name, make in cases.items()}
    # What is here by now would have been done before this is answered.
    lives()
    for name, (status, email) in statuses.items():
        assert not exists(email), f"{name}: the hidden request was done"
        assert status is None or 400 <= status < 600, (name, status)
    # As a body it is none either.
    email = f"smuggled{next_number()}@x"
    inner = registration(email)
    web = Web().send(request("POST", "/api/auth/login", body=inner))
    expect(web.answer()[0], 400)
    lives()
    assert not exists(email)
    # But behind a whole request it is one.
    web = Web().send(request("POST", "/api/auth/login", body=b"{}") + inner)
    expect((web.answer()[0], web.answer()[0]), (400, 201))
    assert exists(email)


def giant_heads():
    """A head has its bound, and costs no more than that."""
    before = resident_megabytes()
    for head in [b"GET /" + b"a" * 1_000_000, b"G" * 1_000_000,
                 request("GET", "/healthz")[:-2] + b"X: " + b"a" * 1_000_000,
                 request("GET", "/healthz")[:-2] + b"".join(b"X%d: a\r\n" % n for n in range(100_000)),
                 request("GET", "/healthz")[:-2] + b"X: y\r\n" * 100_000,
                 request("GET", "/healthz?" + "a=b&" * 200_000),
                 request("POST", "/api/auth/login", fields=["Transfer-Encoding: chunked"]) + b"0;" + b"a" * 1_000_000,
                 request("POST", "/api/auth/login", fields=["Transfer-Encoding: chunked"]) + b"0\r\n" + b"X: y\r\n" * 100_000]:
        web = Web()
        try:
            web.send(head)
        except OSError:
            pass
        try:
            status = web.answer()[0]
            assert status in (400, 413, 414, 431, 501), (status, head[:60])
        except Ended:
            pass
        web.close()
    # Many at once hold their bound each.
    some = []
    for number in range(300):
        web = Web()
        web.send(request("GET", "/healthz")[:-2] + b"X: " + b"a" * 15_000)
        some.append(web)
    lives()
    growth = resident_megabytes() - before
    assert growth < (200 if IS_SANITIZED else 30), f"{growth} MB more"


def slow():
    """A head that comes byte by byte is given up in its time, and a body that stalls in its own."""
    def drip(data):
        web, began = Web(), time.monotonic()
        try:
            for byte in data:
                web.send(bytes([byte]))
                time.sleep(0.1)
                if time.monotonic() - began > DEADLINE:
                    raise AssertionError("nobody ends it")
                web.sock.setblocking(False)
                try:
                    if web.sock.recv(1, socket.MSG_PEEK) is not None:
                        break
                except BlockingIOError:
                    pass
                web.sock.settimeout(DEADLINE)
        except OSError:
            pass
        web.sock.settimeout(DEADLINE)
        return web, time.monotonic() - began

    web, took = drip(request("GET", "/" + "a" * 2000))
    expect(web.answer()[0], 408)
    assert took < 6 * PATIENCE, took
    web.closed()
    # A body has 30 s, and more only for what has come.
    whole = registration("slow@x")
    web, began = Web().send(whole[:-10]), time.monotonic()
    web.sock.settimeout(60 * PATIENCE)
    lives()
    expect(web.answer()[0], 408)
    assert 20 < time.monotonic() - began < 45 * PATIENCE
    web.closed()
    assert not exists("slow@x")


def stalled_body():
    """A body that stalls after the answer holds its connection no longer than others."""
    for data in [request("GET", "/healthz", fields=["Content-Length: 100"]) + b"a",
                 request("GET", "/healthz", fields=["Transfer-Encoding: chunked"]) + b"5\r\na",
                 request("POST", "/api/auth/logout", fields=["Content-Length: 100"]) + b"a"]:
        web, began = Web().send(data), time.monotonic()
        status, fields, _ = web.answer()
        assert status in (200, 401) and fields["connection"].lower() == "close", (status, fields)
        expect(web.closed(), b"")
        assert time.monotonic() - began < 5 * PATIENCE
        # And really: not only our half.
        def is_refused(web=web):
            try:
                web.send(b"a")
                return False
            except OSError:
                return True
        eventually(is_refused, "its other half ends too", within=5 * PATIENCE)


def idle():
    """1,000 connections that wait cost little, and keep nobody waiting."""
    before = resident_megabytes()
    some = []
    for number in range(1000):
        web = Web()
        if number % 2 == 0:
            web.send(request("GET", "/healthz"))
        some.append(web)
    for web in some[::2]:
        expect(web.answer()[0], 200)
    served = Web()
    times = []
    for _ in range(300):
        began = time.monotonic()
        expect(served.send(request("GET", "/healthz")).answer()[0], 200)
        times.append(time.monotonic() - began)
    assert sorted(times)[150] < 0.02 * PATIENCE, sorted(times)[150]
    spent = processor_seconds()
    time.sleep(1)
    assert processor_seconds() - spent < 0.3, "they cost while they wait"
    assert resident_megabytes() - before < (200 if IS_SANITIZED else 24), resident_megabytes() - before
    for web in some[::2]:
        expect(web.send(request("GET", "/healthz")).answer()[0], 200)


def never_reads():
    """Who asks and asks and never reads is not read any more, and costs a bound of memory."""
    before = resident_megabytes()
    greedy = []
    batch = request("GET", "/api/openapi.json") * 100
    for _ in range(4):
        web = Web(receive_buffer=4096)
        web.sock.settimeout(1 * PATIENCE)
        sent = 0
        try:
            while sent < 32 << 20:
                sent += web.sock.send(batch)
        except TimeoutError:
            pass
        assert sent < 32 << 20, "all is read"
        greedy.append(web)
    lives()
    growth = resident_megabytes() - before
    assert growth < (200 if IS_SANITIZED else 24), f"{growth} MB more"
    # And who reads again goes on.
    web = greedy[0]
    web.sock.settimeout(DEADLINE)
    for _ in range(50):
        expect(web.answer()[0], 200)


def killed():
    """Whoever is cut off at any byte is forgotten; and at SIGKILL nothing half is left."""
    def sockets():
        names = os.listdir(f"/proc/{PID}/fd")
        count = 0
        for name in names:
            try:
                count += os.readlink(f"/proc/{PID}/fd/{name}").startswith("socket:")
            except OSError:
                pass
        return count
    lives()
    before = sockets()
    data = registration("cut-off@x")
    for cut in range(0, len(data)):
        sock = connection()
        sock.sendall(data[:cut])
        if cut % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
    sock = connection()
    sock.sendall(request("GET", "/api/openapi.json") * 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()
    eventually(lambda: sockets() <= before + 1, "they are forgotten")
    assert not exists("cut-off@x")
    lives()
