package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/stores"
)

// storeCommand is for the operator of an idempotency store.
type storeCommand struct {
	Migrate storeMigrateCommand `cmd:"" help:"Create the tables of a store in PostgreSQL, or bring them up to date."`
	List    storeListCommand    `cmd:"" help:"List the writes that are in flight or whose outcome is unknown."`
	Resolve storeResolveCommand `cmd:"" help:"Settle a write whose outcome is unknown."`
}

// storeFlag names the store.
type storeFlag struct {
	File  config.File     `embed:""`
	Store stores.Location `required:"" env:"MESH_GATEWAY_STORE" placeholder:"file:PATH|postgres://…" help:"The store of the gateway."`
}

// Validate is called by kong once the flags are read.
func (f storeFlag) Validate() error {
	if f.Store.Memory() {
		return &usageError{"store", errors.New("a store in memory belongs to its gateway; it cannot be used from outside")}
	}
	return nil
}

// use opens the store for the time of a command.
func (f storeFlag) use(ctx context.Context, std streams, do func(idempotency.Store) error) error {
	store, warnings, err := f.Store.OpenExisting(ctx)
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		fmt.Fprintln(std.err, "mesh-gateway: warning:", warning)
	}
	return errors.Join(do(store), store.Close())
}

type storeMigrateCommand struct{ storeFlag }

// Help follows the summary in the command's help.
func (storeMigrateCommand) Help() string {
	return "Run it before the first start, and before a gateway of a newer version is started. Gateways that are running can go on. " + aboutFlags
}

// Run applies the migrations that are missing.
func (c storeMigrateCommand) Run(ctx context.Context, std streams) error {
	applied, err := c.Store.Migrate(ctx)
	if err != nil {
		return err
	}
	for _, name := range applied {
		fmt.Fprintln(std.out, "applied", name)
	}
	if len(applied) == 0 {
		fmt.Fprintln(std.out, "the tables are up to date")
	}
	return nil
}

type storeListCommand struct {
	storeFlag
	All bool `env:"-" help:"List finished writes too."`
}

// Help follows the summary in the command's help.
func (storeListCommand) Help() string {
	return "CALLER is the hash of an API key, as GetAPIUserByKeyHash takes it. A file can be listed only while no gateway has it open. " + aboutFlags
}

// Run prints one line per record.
func (c storeListCommand) Run(ctx context.Context, std streams) error {
	return c.use(ctx, std, func(store idempotency.Store) error {
		table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "STATE\tCREATED\tRPC\tGROUP\tCALLER\tKEY\tRECORD")
		if err := store.List(ctx, idempotency.Filter{Sent: !c.All}, func(r idempotency.Record, now time.Time) error {
			_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", stateOf(&r, now), r.Created.UTC().Format(time.RFC3339), rpcOf(&r), r.Group,
				base64.StdEncoding.EncodeToString(r.Caller[:]), r.Key, r.ID)
			return err
		}); err != nil {
			return err
		}
		return table.Flush()
	})
}

// stateOf is the state of a record as its clients see it.
func stateOf(r *idempotency.Record, now time.Time) string {
	switch {
	case r.Unknown(now):
		return "unknown"
	case r.State == idempotency.Sent:
		return "in flight"
	default:
		return string(r.State)
	}
}

// rpcOf is the name of the RPC without its package.
func rpcOf(r *idempotency.Record) string {
	return strings.ReplaceAll(r.Method[strings.LastIndexByte(r.Method, '.')+1:], "/", ".")
}

type storeResolveCommand struct {
	storeFlag
	Key           string `arg:"" help:"The Idempotency-Key of the write, or its record as \"store list\" shows it."`
	CarriedOut    bool   `env:"-" xor:"outcome" required:"" help:"Mesh carried out the write. Repeated requests are told so."`
	NotCarriedOut bool   `env:"-" xor:"outcome" required:"" help:"Mesh did not carry out the write, and will not. The key can be used again."`
}

// Help follows the summary in the command's help.
func (storeResolveCommand) Help() string {
	return "First find out what Mesh did with the write, for example with a get or list call. With --not-carried-out, the next request with the key is sent to Mesh. " + aboutFlags
}

// Run settles the record.
func (c storeResolveCommand) Run(ctx context.Context, std streams) error {
	return c.use(ctx, std, func(store idempotency.Store) error {
		r, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		switch err := store.Settle(ctx, r.ID, r.Token, c.CarriedOut); {
		case errors.Is(err, idempotency.ErrInFlight):
			return fmt.Errorf("the write may still be in flight; wait until %s", r.Deadline.Add(idempotency.Margin).Format(time.RFC3339))
		case errors.Is(err, idempotency.ErrNotClaimed):
			return errors.New("the write was finished in the meantime; nothing was changed")
		case err != nil:
			return err
		}
		outcome := "not carried out; its key can be used again"
		if c.CarriedOut {
			outcome = "carried out"
		}
		_, err = fmt.Fprintf(std.out, "%s of %s with key %s: %s\n", rpcOf(&r), r.Group, r.Key, outcome)
		return err
	})
}

// find returns the record that the key names.
func (c storeResolveCommand) find(ctx context.Context, store idempotency.Store) (found idempotency.Record, err error) {
	var matches []string
	finished := false
	err = store.List(ctx, idempotency.Filter{Key: c.Key}, func(r idempotency.Record, _ time.Time) error {
		if r.State != idempotency.Sent {
			finished = true
			return nil
		}
		found = r
		matches = append(matches, fmt.Sprintf("%s (%s of %s)", r.ID, rpcOf(&r), r.Group))
		return nil
	})
	switch {
	case err != nil:
		return found, err
	case len(matches) > 1:
		return found, fmt.Errorf("%d writes have the key %s; name one by its record: %s", len(matches), c.Key, strings.Join(matches, ", "))
	case len(matches) == 0 && finished:
		return found, fmt.Errorf("the write with the key %s is finished; there is nothing to settle", c.Key)
	case len(matches) == 0:
		return found, fmt.Errorf("there is no write with the key %s", c.Key)
	}
	return found, nil
}
