// Lists accounts, searches API users, places a limit order and monitors it until it is finished,
// and shows how a validation error is reported.
import { answer, connect, messages, MeshError, type Schemas } from "./mesh-client.js";

const group = process.env.MESH_GROUP ?? "groups/00000000000000000000BR0KER";
const mesh = connect({
  url: process.env.MESH_GATEWAY_URL ?? "http://127.0.0.1:8080",
  key: process.env.MESH_API_KEY ?? "sandbox-broker-admin-key-000000000000000000",
  group,
});

const { accounts = [] } = await answer(mesh.GET("/v1/accounts", { params: { query: { populateLedgerData: true } } }));
for (const account of accounts) {
  const balances = (account.balances ?? []).map(({ amount }) => `${amount?.value?.value} ${amount?.token?.code}`);
  console.log(`account ${account.number} ${account.displayName}: ${balances.join(", ")}`);
}

const { apiUsers = [] } = await answer(mesh.GET("/v1/iam/api_users:search", { params: { query: { displayName: "Admin" } } }));
console.log(`API users: ${apiUsers.map(({ displayName }) => displayName).join(", ")}`);

const xlm: Schemas["Token"] = { code: "XLM", issuer: "__LEDGER__", ledger: "LEDGER_STELLAR" };
const usdc: Schemas["Token"] = {
  code: "USDC",
  issuer: "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN",
  ledger: "LEDGER_STELLAR",
};
const order = await answer(
  mesh.POST("/v1/limit_orders", {
    body: {
      owner: group,
      account: "accounts/00000000000000000000000001",
      externalReference: `typescript-${Date.now()}`,
      side: "LIMIT_ORDER_SIDE_BUY",
      quantity: { token: xlm, value: { value: "1200" } },
      limitPrice: { token: usdc, value: { value: "0.49" } },
    },
  }),
);
console.log(`placed order ${order.number}`);

// A stream reports each change of the state, but no fill in between. To see the fills, get the order
// with live data.
const live = { path: { limit_order: order.name?.replace("limit_orders/", "") ?? "" }, query: { liveLedgerData: true } };
let seen: Schemas["LimitOrder"];
do {
  await new Promise((resolve) => setTimeout(resolve, 250));
  seen = await answer(mesh.GET("/v1/limit_orders/{limit_order}", { params: live }));
} while (seen.filledQuantity?.value?.value === "0");
console.log(`order ${seen.number} is ${seen.state}, filled ${seen.filledQuantity?.value?.value} so far`);

const stream = await answer(
  mesh.GET("/v1/limit_orders/{limit_order}:monitor", {
    params: live,
    parseAs: "stream",
  }),
);
if (stream === null) {
  throw new Error("the response has no body");
}
for await (const { state, filledQuantity } of messages<Schemas["LimitOrder"]>(stream)) {
  console.log(`order ${order.number} is ${state}, filled ${filledQuantity?.value?.value ?? "0"}`);
}

try {
  await answer(mesh.POST("/v1/iam/api_users", { body: { owner: "me", displayName: "" } }));
} catch (error) {
  if (!(error instanceof MeshError)) {
    throw error;
  }
  console.log(`error ${error.httpStatus}, ${error.reason}`);
  for (const { field, description } of error.violations) {
    console.log(`  ${field}: ${description}`);
  }
}
