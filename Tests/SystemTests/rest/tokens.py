"""Log-ins as PyJWT sees them, and forged ones."""
import base64
import hashlib
import hmac
import json
import time

import jwt

from support import ask, admin, database, expect, log_in, must, next_number, register


def key():
    """Name and secret of the key that log-ins are signed with."""
    with database() as base:
        rows = base.execute("SELECT id, secret FROM signing_key WHERE purpose = 'jwt' ORDER BY created DESC").fetchall()
    return rows[0]


def encoded(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


def signed(header, claims, secret, digest=hashlib.sha256):
    """Of any header and claims; each may be bytes that are no JSON."""
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{encoded(hmac.new(secret, text.encode(), digest).digest())}"


def refusal(token):
    status, members = ask("GET", "/api/auth/me", token)
    expect((status, members.get("code")), (401, "not_authenticated"), f"{token[:200]}: {members}")
    return members


def ours():
    """PyJWT reads ours, and we read PyJWT's."""
    name, secret = key()
    email, person = register()
    before = int(time.time())
    token = log_in(email)
    header = jwt.get_unverified_header(token)
    expect(header, {"alg": "HS256", "kid": name, "typ": "JWT"})
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience="martlet", issuer="martlet",
                        options={"require": ["exp", "iat", "iss", "aud", "jti", "sub"]})
    expect({name: claims[name] for name in ("sub", "id", "email", "role")},
           {"sub": person, "id": person, "email": email, "role": "user"})
    assert before <= claims["iat"] <= time.time() and claims["exp"] == claims["iat"] + 24 * 3600, claims
    expect(set(claims), {"iss", "aud", "jti", "sub", "id", "email", "role", "iat", "exp"})
    again = jwt.decode(log_in(email), secret, algorithms=["HS256"], audience="martlet")
    assert again["jti"] != claims["jti"]
    for headers in [{"kid": name}, {"kid": name, "cty": "JWT"}]:
        theirs = jwt.encode(claims, secret, algorithm="HS256", headers=headers)
        expect(ask("GET", "/api/auth/me", theirs)[1]["user"]["id"], person)
    # An audience may be a list, and clocks may differ by a minute.
    now = int(time.time())
    for change in [{"aud": ["other", "martlet"]}, {"nbf": now - 5}, {"nbf": now + 50}, {"iat": now + 50}]:
        theirs = jwt.encode({**claims, **change}, secret, algorithm="HS256", headers={"kid": name})
        expect(ask("GET", "/api/auth/me", theirs)[0], 200, change)
    administrator = jwt.decode(admin(), secret, algorithms=["HS256"], audience="martlet")
    expect(administrator["role"], "admin")


def attacks():
    """Whatever does not come from us, or does not count any more, is answered alike."""
    name, secret = key()
    (mine, me), (theirs, them) = register(), register()
    token, other = log_in(mine), log_in(theirs)
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience="martlet")
    others = jwt.decode(other, secret, algorithms=["HS256"], audience="martlet")
    header = {"alg": "HS256", "kid": name, "typ": "JWT"}
    head, body, signature = token.split(".")
    now = int(time.time())

    def with_claims(**changes):
        changed = {key: value for key, value in {**claims, **changes}.items() if value is not ...}
        return signed(header, changed, secret)

    def with_header(**changes):
        return signed({key: value for key, value in {**header, **changes}.items() if value is not ...}, claims, secret)

    expect(ask("GET", "/api/auth/me", with_claims())[0], 200, "what follows is not refused for its form")
    forged = {
        # Algorithms.
        "none": f"{encoded({**header, 'alg': 'none'})}.{body}.",
        "None": f"{encoded({**header, 'alg': 'None'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "none, signed": with_header(alg="none"),
        "none by PyJWT": jwt.encode(claims, None, algorithm="none", headers={"kid": name}),
        "HS384": signed({**header, "alg": "HS384"}, claims, secret, hashlib.sha384),
        "HS512": signed({**header, "alg": "HS512"}, claims, secret, hashlib.sha512),
        "HS384 that says HS256": signed(header, claims, secret, hashlib.sha384),
        "RS256": with_header(alg="RS256"), "ES256": with_header(alg="ES256"), "hs256": with_header(alg="hs256"),
        "no algorithm": with_header(alg=...), "a number for one": with_header(alg=256),
        "critical": with_header(crit=["b64"], b64=False),
        # Keys.
        "another key": signed(header, claims, b"\x00" * 32), "no key": signed(header, claims, b""),
        "its name for a key": signed(header, claims, name.encode()),
        "an unknown key": with_header(kid="AAAAAAAA"), "no name of a key": with_header(kid=...),
        "an empty name": with_header(kid=""), "a path": with_header(kid="../../../dev/null"),
        "SQL": with_header(kid="x' UNION SELECT '"),
        # Time.
        "expired": with_claims(exp=now - 1), "expired long ago": with_claims(exp=0),
        "expires before the epoch": with_claims(exp=-1),
        "not yet": with_claims(nbf=now + 3600), "not yet made": with_claims(iat=now + 3600),
        "expires as text": with_claims(exp=str(now + 60)), "expires half": with_claims(exp=now + 60.5),
        "expires later than numbers go": with_claims(exp=10**30), "never": with_claims(exp=...),
        "made never": with_claims(iat=...), "not yet, as text": with_claims(nbf="now"),
        "not yet, null": with_claims(nbf=None),
        # Names.
        "another issuer": with_claims(iss="someone"), "no issuer": with_claims(iss=...),
        "issuers": with_claims(iss=["martlet"]),
        "another audience": with_claims(aud="someone"), "audiences": with_claims(aud=["a", "b"]),
        "no audience": with_claims(aud=...), "an empty audience": with_claims(aud=[]),
        "no number": with_claims(jti=...), "an unknown number": with_claims(jti="0" * 36),
        "an empty number": with_claims(jti=""), "somebody else's number": with_claims(jti=others["jti"]),
        "somebody else's subject": with_claims(sub=them), "somebody else": with_claims(sub=them, id=them),
        "somebody else's e-mail": with_claims(email=theirs),
        "somebody else with my number": with_claims(sub=them, id=them, email=theirs),
        "nobody": with_claims(sub="nobody"), "no subject": with_claims(sub=...), "no e-mail": with_claims(email=...),
        "the e-mail in another case": with_claims(email=mine.upper()), "a role of none": with_claims(role="root"),
        # Bytes.
        "tampered claims": f"{head}.{encoded({**claims, 'role': 'admin'})}.{signature}",
        "their claims": f"{head}.{other.split('.')[1]}.{signature}",
        "tampered head": f"{encoded({'typ': 'JWT', 'alg': 'HS256', 'kid': name})}.{body}.{signature}",
        "tampered signature": f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "half a signature": f"{head}.{body}.{signature[:20]}", "more of one": f"{token}AAAA",
        "its last bits": f"{token[:-1]}{chr(ord(token[-1]) + 1)}",
        "padded": f"{head}.{body}.{signature}=", "padded claims": f"{head}.{body}==.{signature}",
        "plain base64": signed(header, claims, secret).replace("-", "+").replace("_", "/") + "+",
        "a line's end inside": f"{head}.{body[:5]}%0A{body[5:]}.{signature}",
        "two parts": f"{head}.{body}", "four parts": f"{token}.", "an empty start": f".{body}.{signature}",
        "dots": "..", "a dot": ".", "a word": "abc",
        "five parts": f"{head}.{body}.{signature}.{signature}.{signature}",
        "not JSON": signed(header, b"{", secret), "a list": signed(header, [claims], secret),
        "a head that is no JSON": signed(b"HS256", claims, secret), "nothing inside": signed(header, {}, secret),
        "no UTF-8": signed(header, b'{"iss":"\xff"}', secret),
        "deep": signed(header, b"[" * 700 + b"]" * 700, secret), "zero": signed(header, b"\x00", secret),
        "something behind": signed(header, json.dumps(claims).encode() + b" x", secret),
        "an algorithm twice": signed(f'{{"alg":"none","alg":"HS256","kid":"{name}"}}'.encode(), claims, secret),
        "an e-mail twice": signed(header, f'{{"email":"{theirs}",'.encode() + json.dumps(claims).encode()[1:], secret),
        "an expiry twice": signed(header, b'{"exp":1,' + json.dumps(claims).encode()[1:], secret),
        "huge claims": with_claims(more="x" * 4000), "huge": "a" * 9000, "many parts": "." * 4000,
    }
    answers = {what: refusal(one) for what, one in forged.items() if "\n" not in one}
    expect(len({json.dumps(answer) for answer in answers.values()}), 1, "one answer for all")
    for field in ["Basic " + base64.b64encode(f"{mine}:secret 1".encode()).decode(), "Bearer", "Bearer ", token,
                  f"Bearer  {token}", f"Bearer {token} x", f"Token {token}", f"bearer\t{token}",
                  f"Bearer {token}\r\nAuthorization: Bearer {token}"]:
        status, members = ask("GET", "/api/auth/me", fields=[f"Authorization: {field}"])
        expect((status, members), (401, answers["none"]), field)
    for place in [f"?access_token={token}", f"?token={token}"]:
        expect(ask("GET", f"/api/auth/me{place}")[0], 401)
    expect(ask("GET", "/api/auth/me", fields=[f"aUTHORIZATION: bEARER {token}"])[0], 200)
    # Truncated at, and changed in, each place.
    for cut in range(len(token)):
        if cut % 7 == 0:
            refusal(token[:cut] or "-")
        changed = token[:cut] + ("A" if token[cut] != "A" else "B") + token[cut + 1:]
        if cut % 3 == 0:
            refusal(changed)
    expect(ask("GET", "/api/auth/me", token)[0], 200)


def called_back():
    """One that was logged out, or whose person is gone, counts no more; what it says of the role never counts."""
    name, secret = key()
    email, person = register()
    first, second = log_in(email), log_in(email)
    alike = {json.dumps(refusal("x"))}
    must("POST", "/api/auth/logout", first)
    alike.add(json.dumps(refusal(first)))
    must("GET", "/api/auth/me", second)
    # What it was signed with is not enough: the number has been called back.
    claims = jwt.decode(first, secret, algorithms=["HS256"], audience="martlet")
    alike.add(json.dumps(refusal(jwt.encode({**claims, "exp": claims["exp"] + 10}, secret, headers={"kid": name}))))
    must("DELETE", f"/api/admin/user/{person}", admin())
    alike.add(json.dumps(refusal(second)))
    # And the same address again is somebody else.
    register(email)
    alike.add(json.dumps(refusal(second)))
    expect(len(alike), 1, "one answer for all")
    other, _ = register()
    claims = jwt.decode(log_in(other), secret, algorithms=["HS256"], audience="martlet")
    raised = jwt.encode({**claims, "role": "admin"}, secret, headers={"kid": name})
    expect(ask("GET", "/api/admin/users", raised)[0], 403)


def many():
    """Somebody has at most 50 log-ins: the oldest ends."""
    email, _ = register()
    tokens = [log_in(email) for _ in range(51)]
    refusal(tokens[0])
    for token in tokens[1:]:
        must("GET", "/api/auth/me", token)
    assert next_number() > 0
