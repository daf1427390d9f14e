package sandbox

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
)

// clients is the ClientService.
type clients struct {
	clientv1.UnimplementedClientServiceServer
	*mesh
}

// Short names for the states of a verification.
const (
	notStarted = clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED
	pending    = clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING
	verified   = clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED
	failed     = clientv1.VerificationStatus_VERIFICATION_STATUS_FAILED
)

// verificationMove is one step of a verification and who may take it.
type verificationMove struct {
	name string
	from []clientv1.VerificationStatus
	to   clientv1.VerificationStatus
	// byOwner is set where the owner may take it; the authority always may.
	byOwner bool
}

func startMove() verificationMove {
	return verificationMove{"started", []clientv1.VerificationStatus{notStarted, failed}, pending, true}
}

func failMove() verificationMove {
	return verificationMove{"failed", []clientv1.VerificationStatus{pending}, failed, false}
}

func markMove() verificationMove {
	return verificationMove{"marked verified", []clientv1.VerificationStatus{pending}, verified, false}
}

// maxReason is the longest verification_status_reason, in characters.
const maxReason = 1000

func (s *clients) CreateClient(ctx context.Context, request *clientv1.CreateClientRequest) (*clientv1.Client, error) {
	return store.Update(s.db, func(tx *store.Tx) (*clientv1.Client, error) {
		given := request.GetClient()
		if err := mayCreate(executingGroup(ctx), given.GetOwner()); err != nil {
			return nil, err
		}
		name, err := s.newName(tx, "compliance/clients")
		if err != nil {
			return nil, err
		}
		created := proto.CloneOf(given)
		keepServerFields(created, &clientv1.Client{
			Name: name, Owner: given.GetOwner(), Owners: s.path(tx, given.GetOwner()),
			VerificationStatus: notStarted,
			CreationDate:       timestamppb.New(s.now(tx)),
			Status:             clientv1.ClientStatus_CLIENT_STATUS_COMPLETE_PROFILE,
		})
		if authority := s.authorityOver(tx, given.GetOwner()); authority != nil {
			created.VerificationAuthority = authority.GetName()
			created.VerificationAuthorityDisplayName = authority.GetDisplayName()
		}
		return created, s.clients.Create(tx, created)
	})
}

// authorityOver is the client that verifies those of the group: the nearest one
// above it, nil at the top of the tree.
func (s *clients) authorityOver(tx *store.Tx, group string) *clientv1.Client {
	found, _ := s.groups.Get(tx, group)
	if found.GetOwner() == "" {
		return nil
	}
	return s.clientOf(tx, found.GetOwner())
}

// keepServerFields puts what the server sets, of another client, into one that
// holds what a caller sent.
func keepServerFields(to, from *clientv1.Client) {
	to.Name, to.Owner, to.Owners = from.GetName(), from.GetOwner(), from.GetOwners()
	to.VerificationStatus = from.GetVerificationStatus()
	to.VerificationStatusReason = from.GetVerificationStatusReason()
	to.VerificationAuthority = from.GetVerificationAuthority()
	to.VerificationAuthorityDisplayName = from.GetVerificationAuthorityDisplayName()
	to.VerificationDate = from.GetVerificationDate()
	to.NextVerificationDate = from.GetNextVerificationDate()
	to.CreationDate = from.GetCreationDate()
	to.Status = from.GetStatus()
}

func (s *clients) GetClient(ctx context.Context, request *clientv1.GetClientRequest) (*clientv1.Client, error) {
	return store.View(s.db, func(tx *store.Tx) (*clientv1.Client, error) {
		return getVisible(tx, s.clients, executingGroup(ctx), request.GetName())
	})
}

// GetGroupClient returns the client that owns the group: its own, or the
// nearest one up the tree.
func (s *clients) GetGroupClient(ctx context.Context, request *clientv1.GetGroupClientRequest) (*clientv1.Client, error) {
	return store.View(s.db, func(tx *store.Tx) (*clientv1.Client, error) {
		executing, group := executingGroup(ctx), request.GetGroup()
		if s.reaches(tx, executing, group) {
			if client := s.clientOf(tx, group); client != nil {
				return client, nil
			}
		}
		return nil, status.Errorf(codes.NotFound, "There is no client of %s that is visible to %s.", group, executing)
	})
}

func (s *clients) ListClients(ctx context.Context, _ *clientv1.ListClientsRequest) (*clientv1.ListClientsResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*clientv1.ListClientsResponse, error) {
		return &clientv1.ListClientsResponse{Clients: visible(tx, s.clients, executingGroup(ctx), every)}, nil
	})
}

// UpdateClient changes only the fields that are set. A list or message that is
// set replaces the one that was there.
func (s *clients) UpdateClient(ctx context.Context, request *clientv1.UpdateClientRequest) (*clientv1.Client, error) {
	return store.Update(s.db, func(tx *store.Tx) (*clientv1.Client, error) {
		given := request.GetClient()
		current, err := getVisible(tx, s.clients, executingGroup(ctx), given.GetName())
		if err != nil {
			return nil, err
		}
		open := current.GetVerificationStatus() == notStarted || current.GetVerificationStatus() == failed
		if err := s.may(tx, executingGroup(ctx), current, open); err != nil {
			return nil, err
		}
		changed := proto.CloneOf(current)
		proto.CloneOf(given).ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			changed.ProtoReflect().Set(field, value)
			return true
		})
		keepServerFields(changed, current)
		return changed, s.clients.Update(tx, changed)
	})
}

// may checks that the group acts for the client's verification authority, or,
// where the owner may act too, that it is the owner's. A client without an
// authority, at the top of the tree, is its own.
func (s *clients) may(tx *store.Tx, group string, client *clientv1.Client, byOwner bool) error {
	authority := client.GetOwner()
	if verifier, ok := s.clients.Get(tx, client.GetVerificationAuthority()); ok {
		authority = verifier.GetOwner()
	}
	switch {
	case group == authority, byOwner && group == client.GetOwner():
		return nil
	case group == client.GetOwner():
		return status.Errorf(codes.PermissionDenied,
			"%s is %s, so only its verification authority can make this call. Send %s as x-group.",
			client.GetName(), verificationName(client), authority)
	default:
		return notOwned(group, client)
	}
}

func verificationName(client *clientv1.Client) string {
	return strings.TrimPrefix(client.GetVerificationStatus().String(), "VERIFICATION_STATUS_")
}

func (s *clients) StartClientVerification(ctx context.Context, request *clientv1.StartClientVerificationRequest) (*clientv1.Client, error) {
	return s.verify(ctx, request.GetClient(), startMove(), func(_ time.Time, client *clientv1.Client) {
		client.VerificationStatusReason = ""
	})
}

// FailClientVerification keeps the comments, a line each, as the reason.
func (s *clients) FailClientVerification(ctx context.Context, request *clientv1.FailClientVerificationRequest) (*clientv1.Client, error) {
	return s.verify(ctx, request.GetClient(), failMove(), func(_ time.Time, client *clientv1.Client) {
		reason := []rune(strings.Join(request.GetComments(), "\n"))
		client.VerificationStatusReason = string(reason[:min(len(reason), maxReason)])
	})
}

// MarkClientVerified sets the next verification to the date given, or a year
// on.
func (s *clients) MarkClientVerified(ctx context.Context, request *clientv1.MarkClientVerifiedRequest) (*clientv1.Client, error) {
	return s.verify(ctx, request.GetClient(), markMove(), func(now time.Time, client *clientv1.Client) {
		client.VerificationDate = timestamppb.New(now)
		client.NextVerificationDate = request.GetNextVerificationDate()
		if client.GetNextVerificationDate() == nil {
			client.NextVerificationDate = timestamppb.New(now.AddDate(1, 0, 0))
		}
		client.VerificationStatusReason = ""
		client.Status = clientv1.ClientStatus_CLIENT_STATUS_ACTIVE
	})
}

// verify takes one step of a client's verification.
func (s *clients) verify(ctx context.Context, name string, move verificationMove, change func(now time.Time, client *clientv1.Client)) (*clientv1.Client, error) {
	return store.Update(s.db, func(tx *store.Tx) (*clientv1.Client, error) {
		current, err := getVisible(tx, s.clients, executingGroup(ctx), name)
		if err != nil {
			return nil, err
		}
		if err := s.may(tx, executingGroup(ctx), current, move.byOwner); err != nil {
			return nil, err
		}
		if !slices.Contains(move.from, current.GetVerificationStatus()) {
			var from []string
			for _, status := range move.from {
				from = append(from, verificationName(&clientv1.Client{VerificationStatus: status}))
			}
			return nil, precondition("The verification status of %s is %s. Only a client that is %s can be %s.", name, verificationName(current), strings.Join(from, " or "), move.name)
		}
		changed := proto.CloneOf(current)
		changed.VerificationStatus = move.to
		change(s.now(tx), changed)
		return changed, s.clients.Update(tx, changed)
	})
}
