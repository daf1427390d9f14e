package config

import "github.com/meshtrade/mesh-gateway/internal/middleware"

// CORS says which pages may call the gateway from a browser.
type CORS struct {
	Origins []Origin `name:"cors-origin" live:"" placeholder:"ORIGIN" help:"Origin whose pages may call the API from a browser, such as https://app.example.com; repeatable (none)."`
}

// Origin is an origin in the form that browsers send.
type Origin string

// UnmarshalText parses an origin ([middleware.ParseOrigin]).
func (o *Origin) UnmarshalText(text []byte) error {
	parsed, err := middleware.ParseOrigin(string(text))
	*o = Origin(parsed)
	return err
}
