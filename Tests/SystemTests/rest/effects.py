"""What changes by REST counts at once: for requests, and for the MQTT connections that live by it."""
import subprocess
import tempfile
import time

from support import (BINARY, DATA, DEADLINE, PASSWORD, PATIENCE, Web, add_device, admin, ask, eventually, expect, log_in, must,
                     processor_seconds, refused, register, request, signed_in)


def answers(token, status, code=None):
    found, members = ask("GET", "/api/auth/me", token)
    expect((found, members.get("code")), (status, code), "the token")


def block_person():
    """Somebody who is blocked is out everywhere; the devices go on."""
    email, person = register()
    others, _ = register()
    token, other = log_in(email), log_in(others)
    device, secret = add_device(token)
    by_token, by_password = signed_in(email, token), signed_in(email, PASSWORD)
    reporting, untouched = signed_in(device, secret), signed_in(others, other)
    expect(must("POST", f"/api/admin/user/{person}/block", admin()), {"success": True, "blocked": True})
    answers(token, 401, "not_authenticated")
    assert by_token.ended() and by_password.ended()
    assert reporting.lives() and untouched.lives()
    refused(email, token)
    refused(email, PASSWORD)
    status, members = ask("POST", "/api/auth/login", body={"email": email, "password": PASSWORD})
    expect((status, members["code"]), (403, "blocked"))
    # Only whoever knows the password learns of it.
    status, members = ask("POST", "/api/auth/login", body={"email": email, "password": "wrong 1"})
    expect((status, members["code"]), (401, "invalid_credentials"))
    expect(must("POST", f"/api/admin/user/{email}/block", admin(), {"blocked": True})["blocked"], True)
    expect(must("POST", f"/api/admin/user/{person}/block", admin())["blocked"], False)
    answers(token, 401, "not_authenticated")
    answers(log_in(email), 200)
    signed_in(email, PASSWORD)
    must("DELETE", f"/api/admin/user/{person}", admin())
    refused(email, PASSWORD)
    assert reporting.lives()
    expect(ask("POST", "/api/auth/login", body={"email": email, "password": PASSWORD})[0], 401)
    kinds = [entry["kind"] for entry in must("GET", "/api/admin/activity?limit=500", admin())["activity"]]
    for kind in ["USER_REGISTERED", "USER_BLOCKED", "USER_UNBLOCKED", "USER_DELETED", "LOGIN", "LOGIN_FAILED"]:
        assert kind in kinds, kind


def block_device():
    """A device that is blocked is gone, and comes back when it is not."""
    email, _ = register()
    token = log_in(email)
    (device, secret), (other, others) = add_device(token), add_device(token)
    client, untouched = signed_in(device, secret), signed_in(other, others)
    expect(must("POST", f"/api/admin/device/{device.lower()}/block", admin())["blocked"], True)
    assert client.ended() and untouched.lives()
    refused(device, secret)
    expect(must("GET", f"/api/device/{device}", token)["device"]["blocked"], True)
    expect(ask("POST", f"/api/admin/device/{device}/block", token)[1]["code"], "forbidden")
    must("POST", f"/api/admin/device/{device}/block", admin(), {"blocked": False})
    signed_in(device, secret)


def delete_device():
    """With a device go its credentials, its session and its connection; the name may be had again, by anybody."""
    (email, _), (others, _) = register(), register()
    token, other = log_in(email), log_in(others)
    device, secret = add_device(token)
    kept, connected = signed_in(device, secret, identifier=f"kept-{device}", clean=False), signed_in(device, secret)
    sessions = lambda: [one["clientId"] for one in must("GET", "/api/admin/sessions?limit=500", admin())["sessions"]]
    eventually(lambda: f"kept-{device}" in sessions(), "a session")
    owner = signed_in(email, token)
    must("DELETE", f"/api/device/{device}", token)
    assert kept.ended() and connected.ended() and owner.lives()
    refused(device, secret)
    expect(ask("GET", f"/api/device/{device}", token)[0], 404)
    eventually(lambda: f"kept-{device}" not in sessions(), "its session is gone")
    again = must("POST", "/api/device/register", other, {"deviceId": device})
    expect(again["device"]["owner"], others)
    refused(device, secret)
    signed_in(device, again["credentials"]["password"])
    expect(ask("GET", f"/api/device/{device}", token)[0], 404)


def delete_certified():
    """With a device goes its certificate, which the list of the revoked names."""
    email, _ = register()
    token = log_in(email)
    (device, _), (other, _) = add_device(token), add_device(token)
    with tempfile.TemporaryDirectory() as folder:
        for arguments in [["init"], ["device", device, "--out", folder], ["device", other, "--out", folder]]:
            subprocess.run([BINARY, "certs", *arguments, "--data", DATA], check=True, capture_output=True)
    def certificates():
        listed = must("GET", "/api/admin/certificates", admin())["certificates"]
        return {one["deviceId"]: one for one in listed if one["deviceId"]}      # The server has one too.
    expect({name: one["revokedAt"] for name, one in certificates().items()}, {device: None, other: None})
    must("DELETE", f"/api/device/{device}", token)
    after = certificates()
    assert after[device]["revokedAt"] and after[other]["revokedAt"] is None, after
    shown = subprocess.run(["openssl", "crl", "-in", f"{DATA}/certs/crl.pem", "-noout", "-text"], check=True,
                           capture_output=True, text=True).stdout
    assert after[device]["serial"] in shown and after[other]["serial"] not in shown, shown


def new_credentials():
    """A new secret ends what lives by the old one."""
    email, _ = register()
    token = log_in(email)
    device, secret = add_device(token)
    client = signed_in(device, secret)
    credentials = must("POST", f"/api/device/{device}/credentials", token)["credentials"]
    expect(credentials["username"], device)
    assert client.ended() and credentials["password"] != secret
    refused(device, secret)
    signed_in(device, credentials["password"])
    service = must("POST", "/api/admin/services", admin(), {"name": "node-red"})["credentials"]
    client = signed_in(service["username"], service["password"])
    changed = must("POST", "/api/admin/services/node-red/credentials", admin())["credentials"]
    assert client.ended()
    refused("node-red", service["password"])
    client = signed_in("node-red", changed["password"])
    must("DELETE", "/api/admin/services/node-red", admin())
    assert client.ended()
    refused("node-red", changed["password"])


def log_out():
    """A connection ends with the log-in that it was made with, and no other does."""
    email, _ = register()
    first, second = log_in(email), log_in(email)
    by_first, by_second, by_password = signed_in(email, first), signed_in(email, second), signed_in(email, PASSWORD)
    must("POST", "/api/auth/logout", first)
    assert by_first.ended() and by_second.lives() and by_password.lives()
    answers(first, 401, "not_authenticated")
    answers(second, 200)
    refused(email, first)


def change_password():
    """A new password ends all other log-ins, and what lives by the old one."""
    email, _ = register()
    used, other = log_in(email), log_in(email)
    by_used, by_other, by_password = signed_in(email, used), signed_in(email, other), signed_in(email, PASSWORD)
    expect(ask("POST", "/api/auth/password", used, {"currentPassword": "wrong 1", "newPassword": "another 1"})[0], 401)
    assert by_used.lives() and by_other.lives() and by_password.lives()
    must("POST", "/api/auth/password", used, {"currentPassword": PASSWORD, "newPassword": "another 1"})
    assert by_other.ended() and by_password.ended()
    assert by_used.lives(), "the log-in that was used stays"
    answers(used, 200)
    answers(other, 401, "not_authenticated")
    refused(email, PASSWORD)
    signed_in(email, "another 1")
    expect(ask("POST", "/api/auth/login", body={"email": email, "password": PASSWORD})[0], 401)
    log_in(email, "another 1")


def last_admin():
    """Somebody stays who can let the others in; nobody blocks themselves."""
    me = must("GET", "/api/auth/me", admin())["user"]["id"]
    email, person = register()
    for method, path, body, code in [
            ("POST", "block", {"blocked": True}, "own_account"), ("POST", "role", {"role": "user"}, "last_admin"),
            ("DELETE", "", None, "last_admin")]:
        status, members = ask(method, f"/api/admin/user/{me}/{path}".rstrip("/"), admin(), body)
        expect((status, members["code"]), (409, code), path)
    must("POST", f"/api/admin/user/{person}/role", admin(), {"role": "admin"})
    token = log_in(email)
    expect(ask("POST", f"/api/admin/user/{person}/block", token)[1]["code"], "own_account")
    # One of two may be blocked by the other, who is the last one then.
    must("POST", f"/api/admin/user/{person}/block", admin(), {"blocked": True})
    for method, path, body in [("POST", "role", {"role": "user"}), ("DELETE", "", None)]:
        expect(ask(method, f"/api/admin/user/{me}/{path}".rstrip("/"), admin(), body)[1]["code"], "last_admin", path)
    must("POST", f"/api/admin/user/{person}/block", admin(), {"blocked": False})
    token = log_in(email)
    must("POST", f"/api/admin/user/{me}/role", token, {"role": "user"})
    expect(ask("GET", "/api/admin/users", admin())[1]["code"], "forbidden")
    expect(ask("DELETE", f"/api/admin/user/{person}", token)[1]["code"], "last_admin")


def role_changed():
    """A role counts as it is now, whatever it was at the log-in."""
    email, person = register()
    token = log_in(email)
    device, _ = add_device(log_in(register()[0]))
    expect(ask("GET", f"/api/device/{device}", token)[0], 404)
    must("POST", f"/api/admin/user/{person}/role", admin(), {"role": "admin"})
    must("GET", "/api/admin/users", token)
    must("GET", f"/api/device/{device}", token)
    must("POST", f"/api/admin/user/{person}/role", admin(), {"role": "user"})
    expect(ask("GET", "/api/admin/users", token)[1]["code"], "forbidden")


def throttled():
    """With `login_attempts 3`: who guesses waits, and who does not is not held up."""
    (email, _), (other, _) = register(), register()
    body = {"email": email, "password": "wrong 1"}
    codes = []
    while "too_many_attempts" not in codes:
        status, members = ask("POST", "/api/auth/login", body=body)
        codes.append(members["code"])
        expect(status, 429 if members["code"] == "too_many_attempts" else 401)
        assert len(codes) < 10, codes
    assert codes.count("invalid_credentials") in range(3, 7), codes
    # The right one is not looked at either, nor is it a way round to sign in to MQTT.
    status, members = ask("POST", "/api/auth/login", body={"email": email.upper(), "password": PASSWORD})
    expect((status, members["code"]), (429, "too_many_attempts"))
    refused(email, PASSWORD)
    # Nor does the answer say whether there is such a name.
    unknown = {"email": "nobody-here@x", "password": "wrong 1"}
    found = [ask("POST", "/api/auth/login", body=unknown)[1]["code"] for _ in range(len(codes))]
    assert "too_many_attempts" in found, found
    began = time.monotonic()
    for number in range(40):
        status, members = ask("POST", "/api/auth/login", body={"email": f"a{number}@x", "password": "wrong 1"})
        if status == 429:
            break
    else:
        raise AssertionError("an address may guess at any number of names")
    spent = processor_seconds()
    for _ in range(50):
        ask("POST", "/api/auth/login", body=body)
    assert processor_seconds() - spent < 5 * PATIENCE, "what is refused is not looked at"
    assert time.monotonic() - began < 3 * DEADLINE
    # Those who are in are not asked.
    entries = must("GET", "/api/admin/activity?kind=LOGIN_FAILED&limit=500", _administrator())["activity"]
    mine = [entry for entry in entries if entry["actor"] == email]
    expect(len(mine), 1, "they are one entry, with a count")
    assert not any("nobody-here" in str(entry) for entry in entries), "who is unknown is not named"


def _administrator():
    def attempt():
        try:
            return admin()
        except AssertionError:
            return None
    return eventually(attempt, "the address is let in again", within=60 * PATIENCE)
