package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

const (
	// maxRecords bounds each table unless an option says otherwise.
	maxRecords = 100_000
	// maxBytes bounds the records of each table together, since those of a client can be large.
	maxBytes = 128 << 20
	// fileVersion changes when older files can no longer be read.
	fileVersion = 3
)

// mesh is what the services share: the tables, and what more than one service does with them. A reset
// replaces the records of all tables.
type mesh struct {
	options options
	logger  *slog.Logger
	db      *store.Store
	ledger  *ledger.Ledger
	// random is used in transactions that write, of which there is one at a time.
	random io.Reader

	groups   store.Table[*groupv1.Group]
	apiUsers store.Table[*apiuserv1.APIUser]
	users    store.Table[*userv1.User]
	profiles store.Table[*userprofilev1.UserProfile]
	clients  store.Table[*clientv1.Client]
	keys     store.Table[*apiKey]

	accounts     store.Table[*accountv1.Account]
	transactions store.Table[*transaction]
	transfers    store.Table[*transferv1.Transfer]
	orders       store.Table[*limitorderv1.LimitOrder]
	marketOrders store.Table[*marketOrder]
	taps         store.Table[*taps]
	clocks       store.Table[*clock]
}

// openMesh returns the state as its file has it, or else as it is seeded.
func openMesh(o options) (*mesh, error) {
	db := store.New(store.Config{Records: o.records, Bytes: o.bytes, File: o.file, Version: fileVersion, NoSync: o.noSync})
	m := &mesh{
		options: o, logger: o.logger, db: db, ledger: ledger.New(db),
		groups:   store.NewTable(db, "groups", store.TableOptions[*groupv1.Group]{}),
		apiUsers: store.NewTable(db, "API users", store.TableOptions[*apiuserv1.APIUser]{}),
		users:    store.NewTable(db, "users", store.TableOptions[*userv1.User]{}),
		profiles: store.NewTable(db, "user profiles", store.TableOptions[*userprofilev1.UserProfile]{}),
		clients:  store.NewTable(db, "clients", store.TableOptions[*clientv1.Client]{}),
		keys:     store.NewTable(db, "API keys", store.TableOptions[*apiKey]{}),

		accounts: store.NewTable(db, "accounts", store.TableOptions[*accountv1.Account]{
			Limit: maxAccounts,
			Keys:  func(a *accountv1.Account) []string { return []string{a.GetNumber(), a.GetLedgerId()} },
		}),
		transactions: store.NewTable(db, "transactions", store.TableOptions[*transaction]{
			Pending: func(t *transaction) bool { return !t.final() },
		}),
		transfers: store.NewTable(db, "transfers", store.TableOptions[*transferv1.Transfer]{
			Pending: func(t *transferv1.Transfer) bool { return t.GetState() == transferInProgress },
		}),
		orders: store.NewTable(db, "limit orders", store.TableOptions[*limitorderv1.LimitOrder]{
			Keys: func(o *limitorderv1.LimitOrder) []string {
				return []string{referenceKey(o.GetOwner(), o.GetExternalReference())}
			},
			Pending: func(o *limitorderv1.LimitOrder) bool { return !final(o) },
		}),
		marketOrders: store.NewTable(db, "market orders", store.TableOptions[*marketOrder]{}),
		taps:         store.NewTable(db, "token taps", store.TableOptions[*taps]{}),
		clocks:       store.NewTable(db, "clocks", store.TableOptions[*clock]{Lazy: true}),
	}
	found, err := db.Open()
	switch {
	case err != nil && o.file != "":
		return nil, fmt.Errorf("--sandbox-file %s: %w", o.file, err)
	case err != nil:
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if found {
		err = m.resume()
	} else {
		err = m.reset()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: %w", err), db.Close())
	}
	return m, nil
}

// reset replaces the state by the seed data, and starts the clock and the random source again.
func (m *mesh) reset() error {
	now := clock{Seed: m.options.seed}
	if before, err := store.View(m.db, m.clock); err == nil {
		now.Seed, now.Runs = before.Seed, before.Runs
	}
	return m.db.Reset(func(tx *store.Tx) error {
		m.random = m.options.random(now.Seed, now.Runs)
		if err := m.clocks.Create(tx, &now); err != nil {
			return err
		}
		return m.seed(tx)
	}, status.Error(codes.Aborted, "The sandbox was reset. Connect again."))
}

// resume continues with the state of a file. The random source is another one, so that no key or name
// that follows from the seed is given twice.
func (m *mesh) resume() error {
	return m.db.Continue(func(tx *store.Tx) error {
		now, err := m.clock(tx)
		if err != nil {
			return err
		}
		resumed := *now
		resumed.Runs++
		m.random = m.options.random(resumed.Seed, resumed.Runs)
		return m.clocks.Update(tx, &resumed)
	})
}

// now is the sandbox's time.
func (m *mesh) now(tx *store.Tx) time.Time {
	switch {
	case m.options.now != nil:
		return m.options.now()
	case m.options.clock == ClockManual:
		return m.manualTime(tx)
	}
	return time.Now()
}

// newName makes the name of a new resource.
func (m *mesh) newName(tx *store.Tx, collection string) (string, error) {
	id, err := ulid.New(ulid.Timestamp(m.now(tx)), m.random)
	if err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	return collection + "/" + id.String(), nil
}

// newKey makes an API key: 32 random bytes in 43 characters.
func (m *mesh) newKey() (string, error) {
	var key [32]byte
	if _, err := io.ReadFull(m.random, key[:]); err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(key[:]), nil
}

// apiKey finds an API user by the hash of its key. The keys themselves are not kept.
type apiKey struct{ Hash, User string }

func (k *apiKey) GetName() string   { return k.Hash }
func (*apiKey) GetOwner() string    { return "" }
func (*apiKey) GetOwners() []string { return nil }

// keyHash is the form in which a key is known: standard base64 of its SHA-256.
func keyHash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func containsFold(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}
