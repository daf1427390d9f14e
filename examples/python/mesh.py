"""A client of the Mesh REST gateway that uses only the standard library.

It searches API users, creates one, places an order and monitors it until it is
finished, and shows how a validation error is reported. It reads MESH_GATEWAY_URL,
MESH_API_KEY and MESH_GROUP from the environment. The defaults are for a sandbox on
this machine.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

TYPE = "type.googleapis.com/google.rpc."


class MeshError(Exception):
    """An error from the gateway or Mesh, a google.rpc.Status."""

    def __init__(self, http_status, status):
        super().__init__(status.get("message", ""))
        self.http_status = http_status
        self.code = status.get("code")
        details = {detail["@type"]: detail for detail in status.get("details", [])}
        # The reason, if the gateway itself reported the error. After OUTCOME_UNKNOWN,
        # a write may or may not have been carried out. Check with a get or list call
        # whether it took effect before you repeat it.
        self.reason = details.get(TYPE + "ErrorInfo", {}).get("reason")
        self.violations = details.get(TYPE + "BadRequest", {}).get("fieldViolations", [])
        self.request_id = details.get(TYPE + "RequestInfo", {}).get("requestId")


class Mesh:
    """Calls the gateway in one group. It never repeats a call."""

    def __init__(self, url, key, group, timeout=30):
        self.url, self.group, self.timeout = url.rstrip("/"), group, timeout
        self._headers = {"X-Api-Key": key, "X-Group": group}

    def get(self, path, **query):
        """Returns the response to a read. Parameters have their JSON names: displayName."""
        with self._open("GET", path, query) as response:
            return json.load(response)

    def post(self, path, body=None):
        """Returns the response to a write."""
        with self._open("POST", path, {}, body) as response:
            return json.load(response)

    def stream(self, path, **query):
        """Yields the messages of a stream as they arrive: one JSON object per line."""
        with self._open("GET", path, query) as response:
            for line in response:
                message = json.loads(line)
                if "error" in message:
                    raise MeshError(response.status, message["error"])
                yield message

    def _open(self, method, path, query, body=None):
        url = self.url + path
        if query:
            url += "?" + urllib.parse.urlencode(query, doseq=True)
        headers, data = dict(self._headers), None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            return urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise MeshError(error.code, json.load(error)) from None


def main():
    mesh = Mesh(
        os.environ.get("MESH_GATEWAY_URL", "http://127.0.0.1:8080"),
        os.environ.get("MESH_API_KEY", "sandbox-broker-admin-key-000000000000000000"),
        os.environ.get("MESH_GROUP", "groups/00000000000000000000BR0KER"),
    )

    found = mesh.get("/v1/iam/api_users:search", displayName="Admin")
    print("API users:", ", ".join(user["displayName"] for user in found.get("apiUsers", [])))

    user = mesh.post("/v1/iam/api_users", {"owner": mesh.group, "displayName": "Python example"})
    print(f"created {user['displayName']}, {user['state']}; its key has {len(user['apiKey'])} characters and is shown only once")

    usdc = {"code": "USDC", "issuer": "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", "ledger": "LEDGER_STELLAR"}
    order = mesh.post("/v1/limit_orders", {
        "owner": mesh.group,
        "account": "accounts/00000000000000000000000001",
        "externalReference": f"python-{time.time_ns()}",
        "side": "LIMIT_ORDER_SIDE_BUY",
        "quantity": {"token": {"code": "XLM", "issuer": "__LEDGER__", "ledger": "LEDGER_STELLAR"}, "value": {"value": "1200"}},
        "limitPrice": {"token": usdc, "value": {"value": "0.49"}},
    })
    # A stream reports each change of the state, but no fill in between. To see the
    # fills, get the order with live data.
    filled = "0"
    while filled == "0":
        time.sleep(0.25)
        seen = mesh.get(f"/v1/{order['name']}", liveLedgerData="true")
        filled = seen["filledQuantity"]["value"]["value"]
    print(f"order {seen['number']} is {seen['state']}, filled {filled} so far")
    for seen in mesh.stream(f"/v1/{order['name']}:monitor", liveLedgerData="true"):
        filled = seen.get("filledQuantity", {}).get("value", {}).get("value", "0")
        print(f"order {seen['number']} is {seen['state']}, filled {filled}")

    try:
        mesh.post("/v1/iam/api_users", {"owner": "me", "displayName": ""})
    except MeshError as error:
        print(f"error {error.http_status}, {error.reason}")
        for violation in error.violations:
            print(f"  {violation['field']}: {violation['description']}")


if __name__ == "__main__":
    main()
