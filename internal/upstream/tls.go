package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// tlsCredentials are the TLS credentials of grpc-go, with the configuration that a function returns
// for each connection. crypto/tls asks for a client certificate anew with each connection, but has no
// such hook for the authorities.
type tlsCredentials struct{ config func() *tls.Config }

func (c tlsCredentials) current() credentials.TransportCredentials {
	config := c.config().Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return credentials.NewTLS(config)
}

// ClientHandshake implements [credentials.TransportCredentials].
func (c tlsCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.current().ClientHandshake(ctx, authority, conn)
}

// ServerHandshake implements [credentials.TransportCredentials].
func (tlsCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("upstream: these credentials are for clients")
}

// Info implements [credentials.TransportCredentials]. grpc-go takes the authority of calls from it.
func (c tlsCredentials) Info() credentials.ProtocolInfo { return c.current().Info() }

// Clone implements [credentials.TransportCredentials].
func (c tlsCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements [credentials.TransportCredentials], which deprecates it.
func (tlsCredentials) OverrideServerName(string) error {
	return errors.New("upstream: the server name is part of the configuration")
}
