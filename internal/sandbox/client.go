package sandbox

import (
	"context"
	"fmt"
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

// GetGroupClient returns the client that the group itself owns, never one of a group above.
func (s *clients) GetGroupClient(ctx context.Context, request *clientv1.GetGroupClientRequest) (*clientv1.Client, error) {
	return store.View(s.db, func(tx *store.Tx) (*clientv1.Client, error) {
		executing, group := executingGroup(ctx), request.GetGroup()
		if s.reaches(tx, executing, group) {
			if client := s.ownClient(tx, group); client != nil {
				return client, nil
			}
		}
		return nil, status.Errorf(codes.NotFound, "%s owns no client that is visible to %s. The client of a group above it is not returned.", group, executing)
	})
}

func (s *clients) ListClients(ctx context.Context, _ *clientv1.ListClientsRequest) (*clientv1.ListClientsResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*clientv1.ListClientsResponse, error) {
		return &clientv1.ListClientsResponse{Clients: visible(tx, s.clients, executingGroup(ctx), every)}, nil
	})
}

// UpdateClient changes only the fields that are set. A list or message that is set replaces the one that
// was there. The owner changes a client that is NOT_STARTED or FAILED, but not what the server and the
// authority set. The authority changes one that is PENDING or VERIFIED, its verification included.
func (s *clients) UpdateClient(ctx context.Context, request *clientv1.UpdateClientRequest) (*clientv1.Client, error) {
	return store.Update(s.db, func(tx *store.Tx) (*clientv1.Client, error) {
		given := request.GetClient()
		current, err := getVisible(tx, s.clients, executingGroup(ctx), given.GetName())
		if err != nil {
			return nil, err
		}
		open := current.GetVerificationStatus() == notStarted || current.GetVerificationStatus() == failed
		if err := s.mayUpdate(tx, executingGroup(ctx), current, open); err != nil {
			return nil, err
		}
		changed := proto.CloneOf(current)
		proto.CloneOf(given).ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			changed.ProtoReflect().Set(field, value)
			return true
		})
		if open {
			keepServerFields(changed, current)
		} else {
			changed.Name, changed.Owner, changed.Owners = current.GetName(), current.GetOwner(), current.GetOwners()
		}
		return changed, s.clients.Update(tx, changed)
	})
}

// mayUpdate checks that the group may change the client. While it is open, that is its owner's.
func (s *clients) mayUpdate(tx *store.Tx, group string, client *clientv1.Client, open bool) error {
	if open && group != client.GetOwner() {
		return notOwned(group, client)
	}
	return s.may(tx, group, client, open)
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
	return s.verify(ctx, request.GetClient(), startMove(), func(_ time.Time, client *clientv1.Client) error {
		client.VerificationStatusReason = ""
		return nil
	})
}

// FailClientVerification keeps the comments, a line each, as the reason.
func (s *clients) FailClientVerification(ctx context.Context, request *clientv1.FailClientVerificationRequest) (*clientv1.Client, error) {
	return s.verify(ctx, request.GetClient(), failMove(), func(_ time.Time, client *clientv1.Client) error {
		reason := []rune(strings.Join(request.GetComments(), "\n"))
		client.VerificationStatusReason = string(reason[:min(len(reason), maxReason)])
		return nil
	})
}

// MarkClientVerified sets the next verification to the date given, or a year on. A date that is given must
// be after the dates that the client has, so that a review never shortens the time to the next one.
func (s *clients) MarkClientVerified(ctx context.Context, request *clientv1.MarkClientVerifiedRequest) (*clientv1.Client, error) {
	return s.verify(ctx, request.GetClient(), markMove(), func(now time.Time, client *clientv1.Client) error {
		next := request.GetNextVerificationDate()
		for _, present := range []struct {
			field string
			date  *timestamppb.Timestamp
		}{
			{"verification_date", client.GetVerificationDate()},
			{"next_verification_date", client.GetNextVerificationDate()},
		} {
			if next != nil && present.date != nil && !next.AsTime().After(present.date.AsTime()) {
				return invalid("next_verification_date", fmt.Sprintf("must be after the %s of the client, %s", present.field, present.date.AsTime().Format(time.RFC3339)))
			}
		}
		if next == nil {
			next = timestamppb.New(now.AddDate(1, 0, 0))
		}
		client.VerificationDate, client.NextVerificationDate = timestamppb.New(now), next
		client.VerificationStatusReason = ""
		client.Status = clientv1.ClientStatus_CLIENT_STATUS_ACTIVE
		return nil
	})
}

// verify takes one step of a client's verification.
func (s *clients) verify(ctx context.Context, name string, move verificationMove, change func(now time.Time, client *clientv1.Client) error) (*clientv1.Client, error) {
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
		if err := change(s.now(tx), changed); err != nil {
			return nil, err
		}
		return changed, s.clients.Update(tx, changed)
	})
}
