// A page on a different origin from the gateway. Start the gateway with --cors-origin and the origin
// of this page. There is no framework and no build step.

const usdc = { code: 'USDC', issuer: 'GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN', ledger: 'LEDGER_STELLAR' };
const xlm = { code: 'XLM', issuer: '__LEDGER__', ledger: 'LEDGER_STELLAR' };

const field = (form, name) => document.forms[form].elements[name].value;

// call returns the response body, or throws an Error with a readable message.
async function call(method, path, body) {
  const response = await fetch(field('connection', 'url') + path, {
    method,
    headers: {
      'X-Api-Key': field('connection', 'key'),
      'X-Group': field('connection', 'group'),
      ...(body && { 'Content-Type': 'application/json' }),
    },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(readable(answer));
  return answer;
}

// readable returns a google.rpc.Status as text: the field violations, or the message if there are
// none.
function readable({ message, details = [] }) {
  const faults = details.flatMap(({ fieldViolations = [] }) => fieldViolations);
  return faults.map(({ field, description }) => `${field}: ${description}`).join('\n') || message;
}

// watch calls onMessage for each message of a stream. The promise settles when the stream ends. An
// EventSource cannot set headers, so the stream is opened with a single-use ticket.
async function watch(path, query, onMessage) {
  const { ticket } = await call('POST', '/stream_tickets', { path, query: `${new URLSearchParams(query)}` });
  const url = `${field('connection', 'url')}${path}?${new URLSearchParams({ ...query, ticket })}`;
  await new Promise((resolve, reject) => {
    const events = new EventSource(url);
    const end = (settle, value) => { events.close(); settle(value); };
    events.addEventListener('message', ({ data }) => onMessage(JSON.parse(data)));
    events.addEventListener('end', () => end(resolve));
    // An error with data comes from the gateway. An error without data means that the connection was
    // lost, and the ticket cannot be used again.
    events.addEventListener('error', ({ data }) => end(reject, new Error(data ? readable(JSON.parse(data)) : 'The connection was lost.')));
  });
}

function handle(form, action) {
  const problem = document.getElementById('problem');
  document.forms[form].addEventListener('submit', async (event) => {
    event.preventDefault();
    problem.hidden = true;
    event.submitter.disabled = true;
    try {
      await action();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally {
      event.submitter.disabled = false;
    }
  });
}

function row(...cells) {
  const tr = document.createElement('tr');
  tr.append(...cells.map((text) => Object.assign(document.createElement('td'), { textContent: text })));
  return tr;
}

handle('search', async () => {
  const query = new URLSearchParams(Object.entries({ liveLedgerData: true, token: field('search', 'token'), states: field('search', 'states') }).filter(([, value]) => value));
  const { limitOrders = [] } = await call('GET', `/v1/limit_orders:search?${query}`);
  document.getElementById('orders').replaceChildren(...limitOrders.map(({ number, side, quantity, limitPrice, state }) => row(
    number,
    `${side.replace('LIMIT_ORDER_SIDE_', '')} ${quantity.value.value} ${quantity.token.code} at ${limitPrice.value.value} ${limitPrice.token.code}`,
    state.replace('LIMIT_ORDER_STATE_', ''),
  )));
});

handle('place', async () => {
  const watched = document.getElementById('watched');
  watched.replaceChildren();
  const order = await call('POST', '/v1/limit_orders', {
    owner: field('connection', 'group'),
    account: field('place', 'account'),
    // The reference is unique for the owner, so the order cannot be placed twice by mistake.
    externalReference: `browser-${crypto.randomUUID()}`,
    side: 'LIMIT_ORDER_SIDE_BUY',
    quantity: { token: xlm, value: { value: field('place', 'quantity') } },
    limitPrice: { token: usdc, value: { value: field('place', 'price') } },
  });
  await watch(`/v1/${order.name}:monitor`, { liveLedgerData: true }, ({ number, state, filledQuantity }) => {
    const item = document.createElement('li');
    item.textContent = `Order ${number} is ${state.replace('LIMIT_ORDER_STATE_', '')}, filled ${filledQuantity?.value?.value ?? 0}`;
    watched.append(item);
  });
});
