package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// maxResources bounds each collection unless an option says otherwise, so that
// a client cannot grow it without end.
const maxResources = 100_000

// maxBytes bounds what the resources of a collection take up together: a
// client's are few but can be large.
const maxBytes = 128 << 20

// record is anything that the store holds: it has a name, and an owner that
// decides who can see it.
type record interface {
	GetName() string
	GetOwner() string
	// GetOwners is the path of groups from the root down to the owner.
	GetOwners() []string
}

// resource is what every resource of Mesh has in common. A resource in the
// store is never changed: an update puts a changed copy in its place, so that
// what was handed out stays as it was.
type resource interface {
	proto.Message
	record
}

// store is the state of a Mesh. Services hold mu while they look and act.
type store struct {
	mu      lock
	options options
	clock   *clock
	random  io.Reader
	seed    uint64
	// runs is how often the file was opened before; 0 without one.
	runs     uint64
	journal  *journal
	watchers watchers

	state
}

// state is all that a reset takes back.
type state struct {
	groups   collection[*groupv1.Group]
	apiUsers collection[*apiuserv1.APIUser]
	users    collection[*userv1.User]
	profiles collection[*userprofilev1.UserProfile]
	clients  collection[*clientv1.Client]
	// keys finds an API user by the base64 of its key's SHA-256. The keys
	// themselves are not kept.
	keys collection[*apiKey]

	accounts     collection[*accountv1.Account]
	wallets      collection[*wallet]
	totals       collection[*total]
	transactions collection[*transaction]
	transfers    collection[*transferv1.Transfer]
	orders       collection[*limitorderv1.LimitOrder]
	marketOrders collection[*marketOrder]
	markets      collection[*market]
	entries      collection[*entry]
	taps         collection[*taps]

	// active names the transactions and orders that time moves on, oldest first.
	active []string
}

// clear empties the store and begins time and chance anew.
func (s *store) clear() {
	s.clock, s.random = newClock(s.options), s.options.random(s.seed, s.runs)
	s.state = state{
		groups:   newResources[*groupv1.Group]("groups", s.options.capacity),
		apiUsers: newResources[*apiuserv1.APIUser]("API users", s.options.capacity),
		users:    newResources[*userv1.User]("users", s.options.capacity),
		profiles: newResources[*userprofilev1.UserProfile]("user profiles", s.options.capacity),
		clients:  newResources[*clientv1.Client]("clients", s.options.capacity),
		keys:     newRecords[*apiKey]("API keys", s.options.capacity),

		accounts: newResources("accounts", min(s.options.capacity, maxAccounts), func(account *accountv1.Account) []string {
			return []string{account.GetNumber(), account.GetLedgerId()}
		}),
		wallets:      newRecords[*wallet]("wallets", s.options.capacity),
		totals:       newRecords[*total]("totals", s.options.capacity),
		transactions: newRecords[*transaction]("transactions", s.options.capacity),
		transfers:    newResources[*transferv1.Transfer]("transfers", s.options.capacity),
		orders: newResources("limit orders", s.options.capacity, func(order *limitorderv1.LimitOrder) []string {
			return []string{referenceKey(order.GetOwner(), order.GetExternalReference())}
		}),
		marketOrders: newRecords[*marketOrder]("market orders", s.options.capacity),
		markets:      newRecords[*market]("markets", s.options.capacity),
		entries:      newRecords[*entry]("report entries", s.options.capacity),
		taps:         newRecords[*taps]("token taps", s.options.capacity),
	}
	for _, c := range s.collections() {
		c.setJournal(s.journal)
	}
}

// now is the sandbox's time.
func (s *store) now() time.Time { return s.clock.now() }

func newStore(o options) *store {
	s := &store{options: o, seed: o.seed, watchers: make(watchers)}
	s.clear()
	return s
}

// apiKey is a key by its hash.
type apiKey struct{ Hash, User string }

func (k *apiKey) GetName() string   { return k.Hash }
func (*apiKey) GetOwner() string    { return "" }
func (*apiKey) GetOwners() []string { return nil }

// collection holds records by name, in the order of their creation.
type collection[T record] struct {
	// kind is what a person calls the records.
	kind     string
	capacity int
	byName   map[string]T
	order    []string
	// byOwner holds names in the order of their creation.
	byOwner map[string][]string
	// keys are the other names that find a record; none is "". Of two records
	// with one key it finds the older.
	keys  func(T) []string
	byKey map[string]string
	clone func(T) T
	// size is what a record takes of maxBytes, and bytes what all of them do.
	size  func(T) int
	bytes int
	// number is where in the order a record stands.
	number  map[string]uint64
	journal *journal
}

// newResources makes a collection that hands out copies for a change.
func newResources[T resource](kind string, capacity int, keys ...func(T) []string) collection[T] {
	c := newRecords(kind, capacity, keys...)
	c.clone = func(r T) T { return proto.CloneOf(r) }
	c.size = func(r T) int { return proto.Size(r) }
	return c
}

func newRecords[T record](kind string, capacity int, keys ...func(T) []string) collection[T] {
	c := collection[T]{
		kind: kind, capacity: capacity,
		byName: make(map[string]T), byOwner: make(map[string][]string), byKey: make(map[string]string), number: make(map[string]uint64),
		keys: func(T) []string { return nil },
		size: func(T) int { return 0 }, // the sandbox's own are small
	}
	for _, f := range keys {
		c.keys = f
	}
	return c
}

// room checks that one more record can be put.
func (c *collection[T]) room() error {
	if len(c.order) >= c.capacity {
		return status.Errorf(codes.ResourceExhausted,
			"The sandbox is full: it cannot store more than %d %s. Reset it with POST /sandbox:reset.", c.capacity, c.kind)
	}
	return nil
}

// put adds a record, or replaces the one of its name.
func (c *collection[T]) put(r T) error {
	before, known := c.byName[r.GetName()]
	grown := c.size(r)
	if known {
		grown -= c.size(before)
	}
	if grown > 0 && c.bytes+grown > maxBytes {
		return status.Errorf(codes.ResourceExhausted,
			"The sandbox is full: its %s cannot use more than %d MiB. Reset it with POST /sandbox:reset.", c.kind, maxBytes>>20)
	}
	if !known {
		if err := c.room(); err != nil {
			return err
		}
		c.number[r.GetName()] = uint64(len(c.order))
		c.order = append(c.order, r.GetName())
		c.byOwner[r.GetOwner()] = append(c.byOwner[r.GetOwner()], r.GetName())
		for _, key := range c.keys(r) {
			if _, taken := c.byKey[key]; key != "" && !taken {
				c.byKey[key] = r.GetName()
			}
		}
	}
	c.byName[r.GetName()] = r
	c.bytes += grown
	c.journal.note(place{c.kind, c.number[r.GetName()]}, func() ([]byte, error) { return encode(c.byName[r.GetName()]) })
	return nil
}

// find returns the record of a key.
func (c *collection[T]) find(key string) (T, bool) {
	r, ok := c.byName[c.byKey[key]]
	return r, ok
}

// owned is what belongs to one owner, oldest first.
func (c *collection[T]) owned(owner string) []T {
	found := make([]T, 0, len(c.byOwner[owner]))
	for _, name := range c.byOwner[owner] {
		found = append(found, c.byName[name])
	}
	return found
}

// visible is what a READ in the executing group sees: what belongs to it or to
// a group below it.
func (c *collection[T]) visible(group string, matches func(T) bool) []T {
	var found []T
	for _, name := range c.order {
		if r := c.byName[name]; slices.Contains(r.GetOwners(), group) && matches(r) {
			found = append(found, r)
		}
	}
	return found
}

// getVisible returns a resource for a READ. It returns NOT_FOUND if the resource does not exist or
// belongs neither to the group nor to a group below it.
func (c *collection[T]) getVisible(group, name string) (T, error) {
	if r, ok := c.byName[name]; ok && slices.Contains(r.GetOwners(), group) {
		return r, nil
	}
	var none T
	return none, status.Errorf(codes.NotFound, "%s does not exist or is not visible to %s. A group sees its own resources and those of the groups below it.", name, group)
}

// getForUpdate returns a copy of a resource for a WRITE, which changes it and passes it to put. It
// returns PERMISSION_DENIED if the resource is visible but does not belong to the group.
func (c *collection[T]) getForUpdate(group, name string) (T, error) {
	r, err := c.getVisible(group, name)
	if err != nil {
		return r, err
	}
	if r.GetOwner() != group {
		var none T
		return none, notOwned(group, r)
	}
	return c.clone(r), nil
}

// notOwned returns the error of a WRITE to a resource that is visible to the group but does not
// belong to it.
func notOwned(group string, r record) error {
	if r.GetOwner() == "" {
		return status.Errorf(codes.PermissionDenied, "%s is the root of the tree. No group owns it, so it cannot be changed.", r.GetName())
	}
	return status.Errorf(codes.PermissionDenied,
		"%s belongs to %s. Send that group as x-group instead of %s.", r.GetName(), r.GetOwner(), group)
}

// every matches any resource.
func every[T record](T) bool { return true }

// mayCreate checks that a new resource is created in the executing group.
func mayCreate(group, owner string) error {
	if owner != group {
		return status.Errorf(codes.PermissionDenied,
			"The owner of a new resource must be the executing group, %s, not %s.", group, owner)
	}
	return nil
}

// name makes the name of a new resource.
func (s *store) name(collection string) (string, error) {
	id, err := ulid.New(ulid.Timestamp(s.now()), s.random)
	if err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	return collection + "/" + id.String(), nil
}

// newKey makes an API key: 32 random bytes in 43 characters.
func (s *store) newKey() (string, error) {
	var key [32]byte
	if _, err := io.ReadFull(s.random, key[:]); err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(key[:]), nil
}

// keyHash is the form in which a key is known: standard base64 of its SHA-256.
func keyHash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func containsFold(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}
