package access

import (
	"fmt"
	"net/netip"
)

// ParseNetwork parses an address or a network in CIDR notation.
func ParseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return network, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
	}
	return network, nil
}

// UnmapPrefix converts an IPv4-mapped prefix, such as ::ffff:10.0.0.0/104, to IPv4, since addresses
// are compared in their IPv4 form.
func UnmapPrefix(prefix netip.Prefix) netip.Prefix {
	const mappedBits = 96
	if prefix.Addr().Is4In6() && prefix.Bits() >= mappedBits {
		return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
	}
	return prefix
}

func unmap(networks []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, network := range networks {
		out = append(out, UnmapPrefix(network))
	}
	return out
}

// within reports whether the address is in one of the networks. Every address is if there are none.
func within(networks []netip.Prefix, client netip.Addr) bool {
	if len(networks) == 0 {
		return true
	}
	client = client.Unmap().WithZone("")
	for _, network := range networks {
		if network.Contains(client) {
			return true
		}
	}
	return false
}
