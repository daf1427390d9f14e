package config

import "github.com/meshtrade/mesh-gateway/internal/idempotency/stores"

// Idempotency is what is known of writes with an Idempotency-Key, and whether writes need one.
type Idempotency struct {
	Store stores.Location `name:"store" default:"memory" placeholder:"memory|file:PATH|postgres://…" help:"Where to keep what is known of writes with an Idempotency-Key, and stream tickets. Memory is forgotten when the gateway ends, a file is for one gateway, and PostgreSQL for several (${default})."`
	Keys  string          `name:"idempotency" enum:"optional,required" default:"optional" placeholder:"optional|required" help:"Whether writes need an Idempotency-Key (${default})."`
}
