package sandbox

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Describe prints tables of the groups, API users with their keys, clients, accounts with their
// balances, limit orders and markets. It returns the error of out.
func (s *Sandbox) Describe(out io.Writer) error {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	mesh := &s.store.state
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	section := func(columns ...string) { fmt.Fprintf(table, "\n%s\n", strings.Join(columns, "\t")) }
	row := func(cells ...any) {
		text := make([]string, len(cells))
		for i, cell := range cells {
			text[i] = fmt.Sprint(cell)
		}
		fmt.Fprintln(table, strings.Join(text, "\t"))
	}

	fmt.Fprintln(table, "GROUP\tNAME\tDESCRIPTION")
	for _, name := range mesh.groups.order {
		group := mesh.groups.byName[name]
		row(strings.Repeat("  ", len(group.GetOwners()))+group.GetDisplayName(), name, group.GetDescription())
	}
	section("API USER", "KEY", "GROUP", "DESCRIPTION")
	for _, credential := range Seeded() {
		row(credential.DisplayName, credential.APIKey, mesh.groups.byName[credential.Group].GetDisplayName(), credential.Description)
	}
	section("CLIENT", "NAME", "VERIFICATION STATUS")
	for _, name := range mesh.clients.order {
		client := mesh.clients.byName[name]
		row(client.GetDisplayName(), name, strings.TrimPrefix(client.GetVerificationStatus().String(), "VERIFICATION_STATUS_"))
	}
	section("ACCOUNT", "NUMBER", "NAME", "LEDGER", "BALANCES")
	for _, name := range mesh.accounts.order {
		account := mesh.accounts.byName[name]
		if account.GetInternallyCreated() {
			continue
		}
		balances := []string{}
		for _, h := range mesh.wallets.byName[name].Holdings {
			balances = append(balances, h.Held.String()+" "+h.Token.Code)
		}
		row(account.GetDisplayName(), account.GetNumber(), name, strings.TrimPrefix(account.GetLedger().String(), "LEDGER_"), strings.Join(balances, ", "))
	}
	section("LIMIT ORDER", "NAME", "STATE", "FILLED")
	for _, name := range mesh.orders.order {
		order := mesh.orders.byName[name]
		what := fmt.Sprintf("%s %s %s at %s %s", strings.TrimPrefix(order.GetSide().String(), "LIMIT_ORDER_SIDE_"),
			order.GetQuantity().GetValue().GetValue(), order.GetQuantity().GetToken().GetCode(),
			order.GetLimitPrice().GetValue().GetValue(), order.GetLimitPrice().GetToken().GetCode())
		row(what, name, strings.TrimPrefix(order.GetState().String(), "LIMIT_ORDER_STATE_"), order.GetFilledQuantity().GetValue().GetValue())
	}
	section("MARKET", "PRICE", "LEDGER")
	for _, p := range pairs() {
		row(p.base.Code+"/"+p.quote.Code, mesh.markets.byName[p.key()].Price, strings.TrimPrefix(p.base.Ledger.String(), "LEDGER_"))
	}
	return table.Flush()
}
