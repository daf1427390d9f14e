#!/usr/bin/env bash
# Calls the Mesh REST gateway with curl and jq: searches API users, places an order
# and monitors it until it is finished, and shows how a validation error is
# reported. It reads MESH_GATEWAY_URL, MESH_API_KEY and MESH_GROUP from the
# environment. The defaults are for a sandbox on this machine.
set -euo pipefail

url=${MESH_GATEWAY_URL:-http://127.0.0.1:8080}
group=${MESH_GROUP:-groups/00000000000000000000BR0KER}

# credentials prints a curl config with the headers. curl reads it through a process
# substitution, because other users can see command-line arguments.
credentials() {
  printf 'header = "X-Api-Key: %s"\nheader = "X-Group: %s"\n' \
    "${MESH_API_KEY:-sandbox-broker-admin-key-000000000000000000}" "$group"
}

# mesh METHOD PATH [BODY] prints the response. If the call fails, it prints a readable
# error and returns 1. It never repeats a call.
mesh() {
  local method=$1 path=$2 body=${3:-} answer status
  answer=$(curl -sS -X "$method" -K <(credentials) -w '\n%{http_code}' \
    ${body:+-H 'Content-Type: application/json' -d "$body"} "$url$path")
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  if [ "$status" -ge 400 ]; then
    jq -r --arg status "$status" '"error \($status): \(.message)",
      (.details[]? | .fieldViolations[]? | "  \(.field): \(.description)")' <<<"$answer" >&2
    return 1
  fi
  printf '%s\n' "$answer"
}

mesh GET '/v1/iam/api_users:search?displayName=Admin' | jq -r '"API users: \([.apiUsers[]?.displayName] | join(", "))"'

order=$(mesh POST /v1/limit_orders "$(jq -n --arg owner "$group" --arg reference "shell-$$-$RANDOM" '{
  $owner,
  account: "accounts/00000000000000000000000001",
  externalReference: $reference,
  side: "LIMIT_ORDER_SIDE_BUY",
  quantity: {token: {code: "XLM", issuer: "__LEDGER__", ledger: "LEDGER_STELLAR"}, value: {value: "1200"}},
  limitPrice: {
    token: {code: "USDC", issuer: "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", ledger: "LEDGER_STELLAR"},
    value: {value: "0.49"}
  }
}')")

# A stream reports each change of the state, but no fill in between. To see the fills,
# get the order with live data.
name=$(jq -r .name <<<"$order") filled=0
while [ "$filled" = 0 ]; do
  sleep 0.25
  seen=$(mesh GET "/v1/$name?liveLedgerData=true")
  filled=$(jq -r .filledQuantity.value.value <<<"$seen")
done
jq -r '"order \(.number) is \(.state), filled \(.filledQuantity.value.value) so far"' <<<"$seen"

# One JSON message per line. If the stream fails, the last line is the error.
curl -sSN -K <(credentials) "$url/v1/$name:monitor?liveLedgerData=true" |
  jq --unbuffered -r 'if .error then "the stream failed: \(.error.message)\n" | halt_error(1)
    else "order \(.number) is \(.state), filled \(.filledQuantity.value.value // "0")" end'

if mesh POST /v1/iam/api_users '{"owner": "me", "displayName": ""}'; then
  echo 'an invalid request was accepted' >&2
  exit 1
fi
