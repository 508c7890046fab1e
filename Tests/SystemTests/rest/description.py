"""schemathesis over `/api/openapi.json`: no answer that the description does not have, and never a 5xx."""
import os
import subprocess
import sys
import tempfile

from support import PORT, add_device, admin, log_in, must, register

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# What would end the log-in that is used, and what it could not say anything about.
EXCLUDED = ["logOut", "changePassword"]


def run(token, parameters, excluded):
    """`parameters`: of operations, what exists."""
    configuration = ""
    for operations, values in parameters:
        pairs = ", ".join(f'"path.{name}" = "{value}"' for name, value in values.items())
        names = ", ".join(f'"{operation}"' for operation in operations)
        configuration += f"[[operations]]\ninclude-operation-id = [{names}]\nparameters = {{ {pairs} }}\n\n"
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/schemathesis.toml", "w") as file:
            file.write(configuration)
        # In a process of its own, from a folder of its own: it leaves files where it stands.
        command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run",
                   f"http://127.0.0.1:{PORT}/api/openapi.json", "--header", f"Authorization: Bearer {token}",
                   "--checks", CHECKS, "--max-examples", "30", "--seed", "1", "--generation-database", "none",
                   "--request-timeout", "20", "--no-color"]
        for operation in excluded:
            command += ["--exclude-operation-id", operation]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    shown = "\n".join(line[:300] for line in (done.stdout + done.stderr).splitlines() if token not in line)
    assert done.returncode == 0, shown[-6000:]
    assert "passed" in done.stdout and "Tested:" in done.stdout, shown[-2000:]
    print(shown[-800:])


def administrator():
    """With things that exist, and with things that do not."""
    token = admin()
    device, _ = add_device(token)
    email, person = register()
    must("POST", "/api/admin/services", token, {"name": "there"})
    run(token, [(["getDevice", "updateDevice", "rotateDeviceCredentials", "blockDevice"], {"deviceId": device}),
                (["blockUser", "setUserRole"], {"userId": person}),
                (["rotateServiceCredentials"], {"name": "there"})], EXCLUDED)


def person():
    """Somebody with one device: administration answers 403."""
    email, _ = register()
    token = log_in(email)
    device, _ = add_device(token)
    run(token, [(["getDevice", "updateDevice", "rotateDeviceCredentials"], {"deviceId": device})],
        EXCLUDED + ["logIn", "registerAccount"])
