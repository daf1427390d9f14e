package config

import (
	"github.com/meshtrade/mesh-gateway/internal/access"
)

// Access is who may call what.
type Access struct {
	Served       Served       `embed:""`
	AllowCIDR    []Network    `name:"allow-cidr" live:"" placeholder:"CIDR" help:"Address or network from which clients may call the API, such as 10.0.0.0/8; repeatable. Health checks and the documentation are not restricted (all)."`
	KeyRules     []access.Key `name:"key-rule" live:"" placeholder:"RULE" help:"What an API key may call, and from where: the SHA-256 of the key, or its first 16 or more digits, then names as for --disable, then from and networks, with spaces in between; repeatable (none)."`
	UnlistedKeys string       `name:"unlisted-keys" live:"" enum:"allow,refuse" default:"allow" placeholder:"allow|refuse" help:"Whether API keys that have no --key-rule may call the API (${default})."`
}

// Served is what the gateway serves of the API. `mesh-gateway openapi` and `mesh-gateway routes` have
// it too.
type Served struct {
	ReadOnly bool          `name:"read-only" live:"" help:"Refuse all calls that write."`
	Disabled []access.Name `name:"disable" live:"" placeholder:"NAME" help:"Method or service that is not served, such as TransferService or CreateTransfer; repeatable (none)."`
}

// Rules returns the rules of what is served.
func (s *Served) Rules() (*access.Rules, error) {
	return access.Compile(access.Config{ReadOnly: s.ReadOnly, Disabled: s.Disabled})
}

// Rules returns the rules of access.
func (a *Access) Rules() (*access.Rules, error) {
	config := access.Config{ReadOnly: a.Served.ReadOnly, Disabled: a.Served.Disabled, Keys: a.KeyRules, ListedKeysOnly: a.UnlistedKeys == "refuse"}
	for _, network := range a.AllowCIDR {
		config.Networks = append(config.Networks, network.Prefix)
	}
	return access.Compile(config)
}

func (a *Access) validate(p *Problems) {
	_, err := a.Rules()
	p.addError("key-rule", err)
}
