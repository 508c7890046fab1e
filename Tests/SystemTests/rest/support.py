"""What the cases of the REST interface share: a broker that runs, people in it, requests and MQTT connections."""
import json
import os
import socket
import sqlite3
import struct
import time

DATA = os.environ.get("REST_DATA", "")
PORT = int(os.environ.get("REST_PORT", "0"))
MQTT_PORT = int(os.environ.get("REST_MQTT_PORT", "0"))
PID = int(os.environ.get("REST_PID", "0"))
BINARY = os.environ.get("REST_BINARY", "martlet")
PATIENCE = float(os.environ.get("MARTLET_TEST_PATIENCE", "1"))
DEADLINE = 20 * PATIENCE
PASSWORD = "secret 1"
_serial = iter(range(1, 1 << 30))


def next_number():
    return next(_serial)


def expect(found, wanted, about=""):
    assert found == wanted, f"{about}: {found!r} where {wanted!r} is expected"


def eventually(condition, about="", within=DEADLINE):
    end = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < end, f"not in time: {about}"
        time.sleep(0.01)
    return result


def connection(port=None, receive_buffer=None):
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(DEADLINE)
    sock.connect(("127.0.0.1", port or PORT))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Ended(Exception):
    """The connection closed where an answer was expected."""


class Web:
    """One connection that speaks HTTP/1.1, byte by byte as a case likes."""

    def __init__(self, receive_buffer=None):
        self.sock, self.rest = connection(receive_buffer=receive_buffer), b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Ended(self.rest)
        self.rest += data

    def _until(self, end):
        while end not in self.rest:
            self._more()
        result, self.rest = self.rest.split(end, 1)
        return result

    def _take(self, count):
        while len(self.rest) < count:
            self._more()
        result, self.rest = self.rest[:count], self.rest[count:]
        return result

    def answer(self, is_head=False):
        """Status, fields by small name, body."""
        lines = self._until(b"\r\n\r\n").decode().split("\r\n")
        version, status = lines[0].split(" ")[:2]
        expect(version, "HTTP/1.1")
        fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
        status = int(status)
        if is_head or status in (100, 204, 304):
            return status, fields, b""
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._take(size)
                expect(self._take(2), b"\r\n")
            expect(self._take(2), b"\r\n")
            return status, fields, body
        return status, fields, self._take(int(fields.get("content-length", 0)))

    def closed(self):
        """What came before the end, which has to come."""
        try:
            while True:
                self._more()
        except Ended:
            return self.rest

    def close(self):
        self.sock.close()


def request(method, path, token=None, body=None, fields=(), version="1.1"):
    """The bytes of a request."""
    text = f"{method} {path} HTTP/{version}\r\nHost: 127.0.0.1:{PORT}\r\n"
    if token:
        text += f"Authorization: Bearer {token}\r\n"
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        text += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return (text + "".join(field + "\r\n" for field in fields) + "\r\n").encode() + data


def ask(method, path, token=None, body=None, fields=()):
    """Status and what the body says, over a connection of its own."""
    web = Web()
    try:
        status, _, data = web.send(request(method, path, token, body, fields)).answer(is_head=method == "HEAD")
    finally:
        web.close()
    return status, json.loads(data) if data else {}


def must(method, path, token=None, body=None):
    status, members = ask(method, path, token, body)
    assert 200 <= status < 300, f"{method} {path}: {status} {members}"
    return members


def log_in(email, password=PASSWORD):
    return must("POST", "/api/auth/login", body={"email": email, "password": password})["token"]


def register(email=None):
    """Somebody new: their e-mail and id."""
    email = email or f"p{next_number()}-{os.getpid()}@x"
    return email, must("POST", "/api/auth/register", body={"email": email, "password": PASSWORD})["userId"]


_admin = None


def admin():
    """A token of an administrator who has changed the first password."""
    global _admin
    if _admin is None:
        try:
            with open(f"{DATA}/first-admin") as file:
                email, password = file.read().split()
            token = log_in(email, password)
            must("POST", "/api/auth/password", token, {"currentPassword": password, "newPassword": PASSWORD})
        except FileNotFoundError:
            token = log_in("admin@localhost")
        _admin = token
    return _admin


def add_device(token):
    """Name and secret."""
    name = f"D{next_number()}-{os.getpid()}"
    answer = must("POST", "/api/device/register", token, {"deviceId": name})
    return name, answer["credentials"]["password"]


def database():
    return sqlite3.connect(f"{DATA}/fleet.db", timeout=10)


def resident_megabytes():
    with open(f"/proc/{PID}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


def processor_seconds():
    with open(f"/proc/{PID}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class MQTT:
    """CONNECT, and what comes: enough to see whether somebody is let in, and when the connection ends."""

    def __init__(self, user, password, identifier=None, clean=True):
        def text(value):
            data = value.encode()
            return struct.pack(">H", len(data)) + data
        flags = 0xC0 | (2 if clean else 0)
        body = text("MQTT") + bytes([4, flags, 0, 0]) + text(identifier or f"c{next_number()}-{os.getpid()}")
        body += text(user) + text(password)
        length, size = b"", len(body)
        while True:
            size, digit = size >> 7, size & 0x7F
            length += bytes([digit | (0x80 if size else 0)])
            if not size:
                break
        self.sock = connection(MQTT_PORT)
        self.sock.sendall(b"\x10" + length + body)
        answer = self._take(4)
        assert answer[:2] == b"\x20\x02", answer
        self.code = answer[3]

    def _take(self, count):
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise Ended(data)
            data += part
        return data

    def lives(self):
        """Whether it answers a ping."""
        try:
            self.sock.sendall(b"\xc0\x00")
            return self._take(2) == b"\xd0\x00"
        except (Ended, ConnectionError):
            return False

    def ended(self):
        """Waits for its end."""
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionResetError:
            pass
        return True


def signed_in(user, password, **more):
    client = MQTT(user, password, **more)
    expect(client.code, 0, f"{user} signs in")
    assert client.lives()
    return client


def refused(user, password):
    code = MQTT(user, password).code
    assert code in (4, 5), f"{user} gets {code}"
