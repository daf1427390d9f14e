package config

import "github.com/meshtrade/mesh-gateway/internal/ratelimit"

// Redis is where gateways share their rate limits.
type Redis struct {
	URL         ratelimit.URL         `name:"redis" placeholder:"URL" help:"Redis or Valkey in which gateways share their rate limits: redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS (none)."`
	Unavailable ratelimit.Unavailable `name:"redis-unavailable" default:"local" placeholder:"local|allow|refuse" help:"What to do with requests while Redis does not answer: count them in memory, allow all, or refuse all with 503 (${default})."`
}
