package sandbox

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recoverUnary answers a call with INTERNAL if its handler panics, and reports the panic. The
// transaction of the call was not committed.
func (m *mesh) recoverUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	panicked := recovered(func() error {
		reply, err = handle(ctx, request)
		return nil
	})
	if panicked != nil {
		return nil, m.reportPanic(info.FullMethod, panicked)
	}
	return reply, err
}

func (m *mesh) recoverStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	panicked := recovered(func() error {
		err = handle(service, stream)
		return nil
	})
	if panicked != nil {
		return m.reportPanic(info.FullMethod, panicked)
	}
	return err
}

func (m *mesh) reportPanic(method string, panicked error) error {
	m.logger.Error("sandbox: a call panicked", "method", method, "error", panicked)
	return status.Error(codes.Internal, "The sandbox failed to carry out this call, because of a fault of its own. Nothing was changed. Its log has the details.")
}
