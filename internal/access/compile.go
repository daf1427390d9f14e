package access

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// Config is what an operator writes. The zero Config allows everything.
type Config struct {
	// ReadOnly refuses all methods that write.
	ReadOnly bool
	// Disabled are methods and services that are not served.
	Disabled []Name
	// Networks are those from which clients may call the API and ask for stream tickets. If there are
	// none, all may. Health checks and the documentation are not restricted.
	Networks []netip.Prefix
	// Keys are the rules of API keys, at most one of each.
	Keys []Key
	// ListedKeysOnly refuses API keys that are not in Keys. Public methods can still be called without
	// a key.
	ListedKeysOnly bool
}

// Compile returns the rules of a configuration. The error is that two rules are for the same key.
func Compile(config Config) (*Rules, error) {
	r := &Rules{
		networks: unmap(config.Networks), listedOnly: config.ListedKeysOnly,
		refused: make(map[string]apierror.Reason), keys: make(map[prefix]*Key),
	}
	if config.ReadOnly {
		for _, method := range contract.Methods() {
			if method.Write {
				r.refused[method.Name()] = apierror.ReadOnly
			}
		}
	}
	for _, name := range config.Disabled {
		methods, err := Find(string(name))
		if err != nil {
			return nil, err
		}
		for _, method := range methods {
			r.refused[method.Name()] = apierror.MethodDisabled
		}
	}
	for i := range config.Keys {
		key := &config.Keys[i]
		if r.keys[prefix(key.hash)] != nil {
			return nil, fmt.Errorf("there are two rules for the key %.*s…", minHashDigits, key.text)
		}
		r.keys[prefix(key.hash)] = key
	}
	return r, nil
}

// Current holds the rules that are in force, which can be replaced while calls are made. A call that
// was admitted is not affected by rules that come later. The zero Current, and nil, allow everything.
type Current struct{ rules atomic.Pointer[Rules] }

// Rules returns the rules in force. They may be nil.
func (c *Current) Rules() *Rules {
	if c == nil {
		return nil
	}
	return c.rules.Load()
}

// Set replaces the rules.
func (c *Current) Set(rules *Rules) { c.rules.Store(rules) }
