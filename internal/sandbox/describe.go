package sandbox

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// Describe prints tables of the groups, API users with their keys, clients, accounts with their
// balances, limit orders and markets. It returns the error of out.
func (s *Sandbox) Describe(out io.Writer) error {
	_, err := store.View(s.mesh.db, func(tx *store.Tx) (struct{}, error) { return struct{}{}, s.mesh.describe(tx, out) })
	return err
}

func (m *mesh) describe(tx *store.Tx, out io.Writer) error {
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
	for group := range m.groups.All(tx) {
		row(strings.Repeat("  ", len(group.GetOwners()))+group.GetDisplayName(), group.GetName(), group.GetDescription())
	}
	section("API USER", "KEY", "GROUP", "DESCRIPTION")
	for _, credential := range Seeded() {
		group, _ := m.groups.Get(tx, credential.Group)
		row(credential.DisplayName, credential.APIKey, group.GetDisplayName(), credential.Description)
	}
	section("CLIENT", "NAME", "VERIFICATION STATUS")
	for client := range m.clients.All(tx) {
		row(client.GetDisplayName(), client.GetName(), strings.TrimPrefix(client.GetVerificationStatus().String(), "VERIFICATION_STATUS_"))
	}
	section("ACCOUNT", "NUMBER", "NAME", "LEDGER", "BALANCES")
	for account := range m.accounts.All(tx) {
		if account.GetInternallyCreated() {
			continue
		}
		w, err := m.ledger.Wallet(tx, account.GetName())
		if err != nil {
			return err
		}
		balances := []string{}
		for _, h := range w.Holdings {
			balances = append(balances, h.Held.String()+" "+h.Token.Code)
		}
		row(account.GetDisplayName(), account.GetNumber(), account.GetName(), strings.TrimPrefix(account.GetLedger().String(), "LEDGER_"), strings.Join(balances, ", "))
	}
	section("LIMIT ORDER", "NAME", "STATE", "FILLED")
	for order := range m.orders.All(tx) {
		what := fmt.Sprintf("%s %s %s at %s %s", strings.TrimPrefix(order.GetSide().String(), "LIMIT_ORDER_SIDE_"),
			order.GetQuantity().GetValue().GetValue(), order.GetQuantity().GetToken().GetCode(),
			order.GetLimitPrice().GetValue().GetValue(), order.GetLimitPrice().GetToken().GetCode())
		row(what, order.GetName(), strings.TrimPrefix(order.GetState().String(), "LIMIT_ORDER_STATE_"), order.GetFilledQuantity().GetValue().GetValue())
	}
	section("MARKET", "PRICE", "LEDGER")
	for _, p := range ledger.Pairs() {
		price, _ := m.ledger.Price(tx, p.Base.Code, p.Quote.Code)
		row(p, price, strings.TrimPrefix(p.Base.Ledger.String(), "LEDGER_"))
	}
	return table.Flush()
}
