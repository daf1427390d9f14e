// Package stores opens the idempotency store that a flag names.
package stores

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/filestore"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/pgstore"
)

// Location says where a store is: "memory", "file:PATH" or a URL that begins with "postgres://".
// The zero Location is memory.
type Location struct {
	path, url string
}

// ParseLocation parses a location. The error does not have the password of a URL.
func ParseLocation(text string) (Location, error) {
	if text == "memory" {
		return Location{}, nil
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		if path == "" {
			return Location{}, errors.New("file: has no path; write file:PATH, such as file:/var/lib/mesh-gateway/keys.db")
		}
		return Location{path: path}, nil
	}
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		return Location{url: text}, pgstore.Check(text)
	}
	scheme, _, _ := strings.Cut(text, ":")
	return Location{}, fmt.Errorf("%q is not a kind of store; write memory, file:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE", scheme)
}

// UnmarshalText implements [encoding.TextUnmarshaler] for flags.
func (l *Location) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLocation(string(text))
	return err
}

// String returns the location without a password.
func (l Location) String() string {
	switch {
	case l.path != "":
		return "file:" + l.path
	case l.url != "":
		if parsed, err := url.Parse(l.url); err == nil {
			// A query can have a password too.
			parsed.RawQuery = ""
			return parsed.Redacted()
		}
		return "postgres://"
	}
	return "memory"
}

// Memory reports whether the store is in memory, and forgets all keys when the gateway ends.
func (l Location) Memory() bool { return l == Location{} }

// Open opens the store. The warnings say what weakens its promises. The caller closes the store.
func (l Location) Open(ctx context.Context) (store idempotency.Store, warnings []string, err error) {
	switch {
	case l.path != "":
		file, err := filestore.Open(l.path, filestore.DefaultLimits())
		if err != nil {
			return nil, nil, err
		}
		return file, nil, nil
	case l.url != "":
		database, err := pgstore.Open(ctx, l.url, pgstore.DefaultLimits())
		if err != nil {
			return nil, nil, err
		}
		return database, database.Warnings(), nil
	}
	return memstore.New(memstore.DefaultLimits()), nil, nil
}

// Start is Open for a gateway. A database that cannot be reached now is no error: its methods return
// [idempotency.ErrUnavailable] until it can be. warn is called with each warning once it is known.
func (l Location) Start(ctx context.Context, warn func(string)) (idempotency.Store, error) {
	if l.url != "" {
		database, err := pgstore.Start(ctx, l.url, pgstore.DefaultLimits(), warn)
		if err != nil {
			return nil, err
		}
		return database, nil
	}
	store, warnings, err := l.Open(ctx)
	for _, warning := range warnings {
		warn(warning)
	}
	return store, err
}

// OpenExisting is like Open, but does not create a file.
func (l Location) OpenExisting(ctx context.Context) (store idempotency.Store, warnings []string, err error) {
	if l.path != "" {
		if _, err := os.Stat(l.path); err != nil {
			return nil, nil, fmt.Errorf("idempotency store: %w", err)
		}
	}
	return l.Open(ctx)
}

// Migrate creates the tables of the store or brings them up to date, and returns the names of the
// migrations that were applied. Only a store in PostgreSQL has tables.
func (l Location) Migrate(ctx context.Context) (applied []string, err error) {
	if l.url == "" {
		return nil, fmt.Errorf("the store %s has no tables; only one at postgres:// has", l)
	}
	return pgstore.Migrate(ctx, l.url)
}
