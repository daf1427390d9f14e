// Package access holds the rules of an operator: which methods of the Mesh API a gateway serves, to
// which addresses, and which methods an API key may call. They narrow what Mesh allows, and never
// widen it: a call that the rules let through is still authorised by Mesh.
//
// A refusal is PERMISSION_DENIED (403) for every rule. AIP-193 has it for a caller that may not
// execute an operation, and Google's APIs use it for a service that is disabled (SERVICE_DISABLED).
// UNIMPLEMENTED would be 501, which many clients repeat and which counts as a failure of the server.
package access

import (
	"crypto/sha256"
	"net/netip"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// Rules are compiled rules. They do not change, and are safe for concurrent use. A nil Rules allows
// everything. A check takes one lookup, and allocates only if it refuses the call.
type Rules struct {
	networks []netip.Prefix
	refused  map[string]apierror.Reason // by the full name of the RPC
	keys     map[prefix]*Key
	// listedOnly refuses keys that are not in keys.
	listedOnly bool
}

// Serves reports whether the method with the full gRPC name is served. The documentation leaves out
// those that are not.
func (r *Rules) Serves(rpc string) bool {
	if r == nil {
		return true
	}
	_, refused := r.refused[rpc]
	return !refused
}

// Methods returns the methods of the contract that are served, in its order.
func (r *Rules) Methods() []*contract.Method {
	var served []*contract.Method
	for _, method := range contract.Methods() {
		if r.Serves(method.Name()) {
			served = append(served, method)
		}
	}
	return served
}

// Address returns an error if clients at the address may not use the gateway.
func (r *Rules) Address(client netip.Addr) error {
	if r == nil || within(r.networks, client) {
		return nil
	}
	return refuse(apierror.AddressNotAllowed, "This gateway does not accept calls from your address.")
}

// Method returns an error if the method with the full gRPC name is not served. A name that is not of
// the contract is not restricted.
func (r *Rules) Method(rpc string) error {
	if r == nil {
		return nil
	}
	switch r.refused[rpc] {
	case "":
		return nil
	case apierror.ReadOnly:
		return refuse(apierror.ReadOnly, "This gateway is in read-only mode and does not accept writes.")
	default:
		return refuse(apierror.MethodDisabled, "This operation is disabled on this gateway.")
	}
}

// Key returns an error if an API key, of which hash is the SHA-256, may not call the method from the
// address. rpc is "" for requests to the gateway itself, which only the network of a key restricts.
// Calls without a key are not restricted.
func (r *Rules) Key(hash [sha256.Size]byte, rpc string, client netip.Addr) error {
	if r == nil || len(r.keys) == 0 && !r.listedOnly {
		return nil
	}
	rule := r.keys[prefix(hash[:])]
	if rule == nil || string(rule.hash) != string(hash[:len(rule.hash)]) {
		if r.listedOnly {
			return refuse(apierror.KeyNotAllowed, "This gateway accepts only certain API keys, and yours is not one of them.")
		}
		return nil
	}
	if !within(rule.networks, client) {
		return refuse(apierror.AddressNotAllowed, "This gateway does not accept this API key from your address.")
	}
	if rule.methods != nil && rpc != "" {
		if _, allowed := rule.methods[rpc]; !allowed {
			return refuse(apierror.KeyNotAllowed, "This gateway does not allow this API key to call this operation.")
		}
	}
	return nil
}

// refuse returns the error of a rule. It does not say what the rule is: clients need not know the
// networks and keys of others.
func refuse(reason apierror.Reason, why string) error {
	return apierror.New(codes.PermissionDenied, reason,
		why+" Nothing was sent to the Mesh API. Ask the operator of the gateway if you need access.")
}
