package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
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
)

// maxResources bounds each collection unless an option says otherwise, so that
// a client cannot grow it without end.
const maxResources = 100_000

// resource is what every resource of Mesh has in common. A resource in the
// store is never changed: an update puts a changed copy in its place, so that
// what was handed out stays as it was.
type resource interface {
	proto.Message
	GetName() string
	GetOwner() string
	// GetOwners is the path of groups from the root down to the owner.
	GetOwners() []string
}

// store is the state of a Mesh. Services hold mu while they look and act.
type store struct {
	mu     sync.RWMutex
	now    func() time.Time
	random io.Reader

	groups   collection[*groupv1.Group]
	apiUsers collection[*apiuserv1.APIUser]
	users    collection[*userv1.User]
	profiles collection[*userprofilev1.UserProfile]
	clients  collection[*clientv1.Client]

	// keys finds an API user's name by the base64 of its key's SHA-256. The
	// keys themselves are not kept.
	keys map[string]string
}

func newStore(o options) *store {
	return &store{
		now: o.now, random: o.random, keys: make(map[string]string),
		groups:   newCollection[*groupv1.Group]("groups", o.capacity),
		apiUsers: newCollection[*apiuserv1.APIUser]("API users", o.capacity),
		users:    newCollection[*userv1.User]("users", o.capacity),
		profiles: newCollection[*userprofilev1.UserProfile]("user profiles", o.capacity),
		clients:  newCollection[*clientv1.Client]("clients", o.capacity),
	}
}

// collection holds resources by name, in the order of their creation.
type collection[T resource] struct {
	// kind is what a person calls the resources.
	kind     string
	capacity int
	byName   map[string]T
	order    []string
}

func newCollection[T resource](kind string, capacity int) collection[T] {
	return collection[T]{kind: kind, capacity: capacity, byName: make(map[string]T)}
}

// put adds a resource, or replaces the one of its name.
func (c *collection[T]) put(r T) error {
	if _, known := c.byName[r.GetName()]; !known {
		if len(c.order) >= c.capacity {
			return status.Errorf(codes.ResourceExhausted,
				"The sandbox is full: it holds no more than %d %s. Restart it to begin anew.", c.capacity, c.kind)
		}
		c.order = append(c.order, r.GetName())
	}
	c.byName[r.GetName()] = r
	return nil
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

// see returns one resource for a READ. What cannot be seen is not there.
func (c *collection[T]) see(group, name string) (T, error) {
	if r, ok := c.byName[name]; ok && slices.Contains(r.GetOwners(), group) {
		return r, nil
	}
	var none T
	return none, status.Errorf(codes.NotFound, "%s does not exist, or cannot be seen from %s; what belongs to that group or one below it can.", name, group)
}

// touch returns a copy of one resource for a WRITE to change and put back.
func (c *collection[T]) touch(group, name string) (T, error) {
	r, err := c.see(group, name)
	if err != nil {
		return r, err
	}
	if r.GetOwner() != group {
		var none T
		return none, notOwned(group, r)
	}
	return proto.CloneOf(r), nil
}

// notOwned refuses a WRITE to what is visible from the group and not its own.
func notOwned(group string, r resource) error {
	if r.GetOwner() == "" {
		return status.Errorf(codes.PermissionDenied, "%s is the root of the tree; no group owns it, so none can change it.", r.GetName())
	}
	return status.Errorf(codes.PermissionDenied,
		"%s belongs to %s; execute the call in that group (x-group), not in %s.", r.GetName(), r.GetOwner(), group)
}

// every matches any resource.
func every[T resource](T) bool { return true }

// mayCreate checks that a new resource is created in the executing group.
func mayCreate(group, owner string) error {
	if owner != group {
		return status.Errorf(codes.PermissionDenied,
			"A resource is created in the executing group: owner must be %s, not %s.", group, owner)
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
