package config

import (
	"fmt"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// Limits bound what clients may use.
type Limits struct {
	RateRead              ratelimit.Rate `name:"rate-limit-read" live:"" default:"600/1m" placeholder:"N/PERIOD" help:"Read requests allowed per API key; 0 disables the limit. A client address is allowed four times as many (${default})."`
	RateWrite             ratelimit.Rate `name:"rate-limit-write" live:"" default:"120/1m" placeholder:"N/PERIOD" help:"Write requests allowed per API key; 0 disables the limit. A client address is allowed four times as many (${default})."`
	RateFailures          ratelimit.Rate `name:"rate-limit-failures" live:"" default:"600/1m" placeholder:"N/PERIOD" help:"Failed requests allowed per client address: those with an API key or ticket that is not valid, and those without a route; 0 disables the limit (${default})."`
	MaxConnections        int            `name:"max-connections" live:"" default:"10000" placeholder:"N" help:"Maximum number of connections of clients; those beyond are closed at once; 0 disables the limit (${default})."`
	MaxAddressConnections int            `name:"max-address-connections" live:"" default:"1000" placeholder:"N" help:"Maximum number of connections from one address that is not a --trusted-proxy; 0 disables the limit (${default})."`
	MaxStreams            int            `name:"max-streams" live:"" default:"5000" placeholder:"N" help:"Maximum number of open streams (${default})."`
	MaxKeyStreams         int            `name:"max-key-streams" live:"" default:"100" placeholder:"N" help:"Maximum number of open streams per API key (${default})."`
	MaxBodyBytes          int64          `name:"max-body-bytes" live:"" default:"1048576" placeholder:"BYTES" help:"Maximum size of a request body, in bytes (${default})."`
	MaxInflightBytes      int64          `name:"max-inflight-bytes" default:"268435456" placeholder:"BYTES" help:"Memory for the request bodies and responses in flight, in bytes; those of one API key may take a quarter of it. Calls that do not fit are rejected with 503 (${default})."`
	Admission             Admission      `name:"admission" placeholder:"adaptive|off" help:"Whether to limit the calls in flight while the Mesh API or the gateway is overloaded, and to reject with 503 what would be answered too late (adaptive; off with --sandbox)."`
	RequestTimeout        time.Duration  `name:"request-timeout" live:"" default:"30s" placeholder:"DURATION" help:"Maximum duration of a call; streams are not limited (${default})."`
}

// Admission says whether calls are limited in an overload.
type Admission string

// The values of [Admission].
const (
	AdmissionAdaptive Admission = "adaptive"
	AdmissionOff      Admission = "off"
)

// UnmarshalText parses adaptive or off.
func (a *Admission) UnmarshalText(text []byte) error {
	*a = Admission(text)
	if *a != AdmissionAdaptive && *a != AdmissionOff {
		return fmt.Errorf("%q is neither %s nor %s", text, AdmissionAdaptive, AdmissionOff)
	}
	return nil
}

// derive fills in the defaults. The sandbox delays calls on demand, which is not an overload.
func (l *Limits) derive(c *Config) {
	if l.Admission == "" {
		l.Admission = AdmissionAdaptive
		if c.Sandbox.Enabled {
			l.Admission = AdmissionOff
		}
	}
}

func (l *Limits) validate(p *Problems) {
	if l.MaxConnections < 0 {
		p.add("max-connections", "must be at least 0, not %d", l.MaxConnections)
	}
	if l.MaxAddressConnections < 0 {
		p.add("max-address-connections", "must be at least 0, not %d", l.MaxAddressConnections)
	}
	if l.MaxStreams < 1 {
		p.add("max-streams", "must be at least 1, not %d", l.MaxStreams)
	}
	if l.MaxKeyStreams < 1 {
		p.add("max-key-streams", "must be at least 1, not %d", l.MaxKeyStreams)
	}
	if l.MaxBodyBytes < 1 {
		p.add("max-body-bytes", "must be at least 1, not %d", l.MaxBodyBytes)
	}
	if l.MaxInflightBytes < budget.MinLimit {
		p.add("max-inflight-bytes", "must be at least %d, not %d", budget.MinLimit, l.MaxInflightBytes)
	}
	if l.RequestTimeout <= 0 {
		p.add("request-timeout", "must be more than 0s, not %s", l.RequestTimeout)
	}
}
