package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
)

// guard is what every call passes before its service sees it.
type guard struct {
	mesh      *mesh
	validator protovalidate.Validator
}

type (
	groupKey  struct{}
	entityKey struct{}
)

// executingGroup is the group that the call runs in; "" on a public method.
func executingGroup(ctx context.Context) string {
	group, _ := ctx.Value(groupKey{}).(string)
	return group
}

// caller is the name of the API user that calls; "" on a public method.
func caller(ctx context.Context) string {
	entity, _ := ctx.Value(entityKey{}).(string)
	return entity
}

func (g *guard) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if err := g.validate(request); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (g *guard) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handle(service, &guardedStream{stream, ctx, g})
}

type guardedStream struct {
	grpc.ServerStream
	ctx   context.Context
	guard *guard
}

func (s *guardedStream) Context() context.Context { return s.ctx }

func (s *guardedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	return s.guard.validate(message)
}

// admit checks, in this order: the key, the group, the roles, and the verification of the API user's
// client. A public method ignores the group, but not a key.
func (g *guard) admit(ctx context.Context, name string) (context.Context, error) {
	if tool(name) {
		return ctx, nil
	}
	method := contract.ByName(name)
	if method == nil {
		return nil, status.Errorf(codes.Unimplemented, "The Mesh API has no method %s.", name)
	}
	received, _ := metadata.FromIncomingContext(ctx)
	return store.View(g.mesh.db, func(tx *store.Tx) (context.Context, error) {
		key := wire.First(received, wire.APIKeyHeader)
		if method.Public && key == "" {
			return ctx, nil
		}
		entity, err := g.entity(tx, key)
		if err != nil || method.Public {
			return ctx, err
		}
		group, ok := g.mesh.groups.Get(tx, wire.First(received, wire.GroupHeader))
		if !ok {
			return nil, status.Error(codes.PermissionDenied, "The group in x-group does not exist. Send the name of an existing group as x-group.")
		}
		if !holdsOne(entity.GetRoles(), method.Roles, g.mesh.path(tx, group.GetName())) {
			return nil, status.Errorf(codes.PermissionDenied,
				"The API user %s (%s) does not have permission for this call in %s. It needs one of the roles %s in that group or in a group above it.",
				entity.GetDisplayName(), entity.GetName(), group.GetName(), roleNames(method.Roles))
		}
		if method.Verified {
			if err := g.verified(tx, entity); err != nil {
				return nil, err
			}
		}
		ctx := context.WithValue(ctx, entityKey{}, entity.GetName())
		return context.WithValue(ctx, groupKey{}, group.GetName()), nil
	})
}

func (g *guard) entity(tx *store.Tx, key string) (*apiuserv1.APIUser, error) {
	if key == "" {
		return nil, status.Error(codes.Unauthenticated, "The API key is missing. Send it as x-api-key.")
	}
	known, ok := g.mesh.keys.Get(tx, keyHash(key))
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "The API key is unknown. mesh-gateway sandbox --describe lists the test keys.")
	}
	user, _ := g.mesh.apiUsers.Get(tx, known.User)
	if user.GetState() != apiuserv1.APIUserState_API_USER_STATE_ACTIVE {
		return nil, status.Error(codes.Unauthenticated, "The API user of this key is INACTIVE. Activate it first.")
	}
	return user, nil
}

// holdsOne reports whether one of the roles wanted is held in one of the groups: a role reaches down
// from where it is held.
func holdsOne(held []string, wanted []rolev1.Role, groups []string) bool {
	numbers := make([]string, len(wanted))
	for i, role := range wanted {
		numbers[i] = strconv.Itoa(int(role))
	}
	return slices.ContainsFunc(held, func(role string) bool {
		group, number, _ := strings.Cut(role, "/roles/")
		return slices.Contains(numbers, number) && slices.Contains(groups, group)
	})
}

// roleName is how a user's roles are written.
func roleName(group string, role rolev1.Role) string { return fmt.Sprintf("%s/roles/%d", group, role) }

func roleNames(roles []rolev1.Role) string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = role.String()
	}
	return strings.Join(names, ", ")
}

// verified checks the compliance client of an API user, which is the one of the group that the API user
// belongs to. The executing group may belong to another client.
func (g *guard) verified(tx *store.Tx, entity *apiuserv1.APIUser) error {
	group := entity.GetOwner()
	client := g.mesh.clientOf(tx, group)
	switch {
	case client == nil:
		return status.Errorf(codes.FailedPrecondition,
			"This call requires a verified compliance client, but the API user %s belongs to %s, which has none. Use an API user of a verified client.", entity.GetName(), group)
	case client.GetVerificationStatus() != clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED:
		return status.Errorf(codes.FailedPrecondition,
			"This call requires a verified compliance client, but the client %s (%s) of the API user %s is %s. Have it verified first.",
			client.GetDisplayName(), client.GetName(), entity.GetName(),
			strings.TrimPrefix(client.GetVerificationStatus().String(), "VERIFICATION_STATUS_"))
	}
	return nil
}

// validate holds a request against the rules of the contract.
func (g *guard) validate(request any) error {
	message, ok := request.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "%T is not a protobuf message.", request)
	}
	err := g.validator.Validate(message)
	broken, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return err
	}
	bad := new(errdetails.BadRequest)
	for _, violation := range broken.Violations {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       protovalidate.FieldPathString(violation.Proto.GetField()),
			Description: violation.Proto.GetMessage(),
		})
	}
	st := status.New(codes.InvalidArgument, summary(bad.GetFieldViolations()))
	if detailed, err := st.WithDetails(bad); err == nil {
		st = detailed
	}
	return st.Err()
}

// summary names the first violation, so that the message reads well alone.
func summary(violations []*errdetails.BadRequest_FieldViolation) string {
	if len(violations) == 0 {
		return "The request is invalid."
	}
	text := violations[0].GetField() + ": " + violations[0].GetDescription()
	if more := len(violations) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more; see details)", more)
	}
	return text
}
