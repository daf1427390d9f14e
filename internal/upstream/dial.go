// Package upstream connects to the Mesh gRPC API. It decides how the
// connection is secured, kept alive and re-established, which calls may be
// repeated, and what a client is told when a call fails without an answer.
package upstream

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// DefaultTarget is the production address of the Mesh API. It is reached over
// TLS only.
const DefaultTarget = "production-service-mesh-api-gateway-lb-frontend.mesh.trade:443"

// MaxReplyBytes is the largest message taken from the upstream, 64 MiB. Account
// reports as spreadsheets are what needs more than grpc-go's default of 4 MiB.
const MaxReplyBytes = 64 << 20

const (
	// A grpc server's default enforcement policy allows a ping each 5 minutes;
	// pinging more often earns a GOAWAY, and that would cut calls in flight.
	keepaliveTime    = 5 * time.Minute
	keepaliveTimeout = 20 * time.Second

	// The default backoff grows to 2 minutes, for which the gateway would go on
	// refusing requests after the upstream has come back.
	reconnectBase     = 100 * time.Millisecond
	reconnectFactor   = 1.6
	reconnectJitter   = 0.2
	reconnectMax      = 2 * time.Second
	minConnectTimeout = 5 * time.Second

	// readAttempts counts the first attempt.
	readAttempts = 3
)

// Options of a connection.
type Options struct {
	// Plaintext leaves TLS out: for a local upstream, never for one that is
	// reached over a network, as the API key travels with each call.
	Plaintext bool
	// TLS replaces the default configuration (system roots, TLS 1.2 or later).
	// A lower MinVersion is raised to TLS 1.2. It excludes Plaintext.
	TLS *tls.Config
	// UserAgent names the caller to the upstream; grpc-go appends its own name.
	UserAgent string
	// Dialer replaces the network: it is how a Mesh in this process is reached.
	// The target is then but a name.
	Dialer func(context.Context) (net.Conn, error)
}

// Dial prepares a connection to the target, which is host:port. It does not
// wait for the upstream: the first call connects, or the Connect method of the
// connection. The caller closes it.
//
// A READ of the contract is attempted up to three times while the upstream is
// unavailable; any other method is treated as a WRITE and attempted once.
//
// Errors of calls over the connection are either statuses that the upstream
// sent, unchanged, or an [apierror.Error] whose cause is what grpc-go said.
func Dial(target string, opts Options) (*grpc.ClientConn, error) {
	address, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	transport, err := transportCredentials(opts)
	if err != nil {
		return nil, err
	}
	serviceConfig, err := retryReads(contract.Methods())
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	faults := new(faults)

	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                keepaliveTime,
			Timeout:             keepaliveTimeout,
			PermitWithoutStream: false,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  reconnectBase,
				Multiplier: reconnectFactor,
				Jitter:     reconnectJitter,
				MaxDelay:   reconnectMax,
			},
			MinConnectTimeout: minConnectTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxReplyBytes)),
		// Whoever controls the upstream's DNS zone must not be able to make
		// writes retryable.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithStatsHandler(faults),
		grpc.WithUnaryInterceptor(faults.unary),
		grpc.WithStreamInterceptor(faults.stream),
	}
	if opts.UserAgent != "" {
		dialOptions = append(dialOptions, grpc.WithUserAgent(opts.UserAgent))
	}
	scheme := "dns:///"
	if opts.Dialer != nil {
		scheme = "passthrough:///"
		dialOptions = append(dialOptions, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return opts.Dialer(ctx) }))
	}
	// The scheme is spelt out because a host called "unix" or "dns" would be
	// read as one.
	conn, err := grpc.NewClient(scheme+address, dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	return conn, nil
}

// parseTarget wants host:port and says what is wrong with anything else.
func parseTarget(target string) (string, error) {
	wrong := func(problem string) (string, error) {
		return "", fmt.Errorf("upstream: the address %q %s; write host:port, such as %s", target, problem, DefaultTarget)
	}
	switch {
	case target == "":
		return wrong("is empty")
	case strings.Contains(target, "/"):
		return wrong("has a scheme or a path")
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		var address *net.AddrError
		if errors.As(err, &address) {
			return wrong("is not an address (" + address.Err + ")")
		}
		return wrong("is not an address")
	}
	if host == "" {
		return wrong("has no host")
	}
	if strings.Contains(host, ":") {
		if ip, err := netip.ParseAddr(host); err != nil || ip.Zone() != "" {
			return wrong("has a host that is not an IPv6 address")
		}
	} else if strings.ContainsFunc(host, notInHostname) {
		return wrong("has a host with a character that no host name has")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return wrong("needs a port from 1 to 65535")
	}
	return net.JoinHostPort(host, strconv.FormatUint(number, 10)), nil
}

func notInHostname(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		return false
	default:
		return true
	}
}

func transportCredentials(opts Options) (credentials.TransportCredentials, error) {
	if opts.Plaintext {
		if opts.TLS != nil {
			return nil, errors.New("upstream: a TLS configuration and plaintext exclude each other")
		}
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if opts.TLS != nil {
		config = opts.TLS.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	return credentials.NewTLS(config), nil
}

// The service config that grpc-go takes, as
// https://github.com/grpc/grpc/blob/master/doc/service_config.md has it.
type serviceConfig struct {
	MethodConfig []methodConfig `json:"methodConfig"`
}

type methodConfig struct {
	Name        []methodName `json:"name"`
	RetryPolicy retryPolicy  `json:"retryPolicy"`
}

type methodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

type retryPolicy struct {
	MaxAttempts          int      `json:"maxAttempts"`
	InitialBackoff       string   `json:"initialBackoff"`
	MaxBackoff           string   `json:"maxBackoff"`
	BackoffMultiplier    float64  `json:"backoffMultiplier"`
	RetryableStatusCodes []string `json:"retryableStatusCodes"`
}

// retryReads names each method that may be repeated. There is no entry for a
// whole service or for all methods, so a method that is not named, each Write
// among them, has no retry policy.
//
// What remains for a Write is grpc-go's transparent retry, which repeats a
// call only where the upstream is known not to have looked at it (RFC 9113,
// section 8.7: REFUSED_STREAM, or a GOAWAY that excludes the stream).
func retryReads(methods []*contract.Method) (string, error) {
	var names []methodName
	for _, method := range methods {
		if method.Write {
			continue
		}
		names = append(names, methodName{
			Service: string(method.Descriptor.Parent().FullName()),
			Method:  string(method.Descriptor.Name()),
		})
	}
	// Without a name the entry would be a mistake, not a default.
	if len(names) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(serviceConfig{MethodConfig: []methodConfig{{
		Name: names,
		RetryPolicy: retryPolicy{
			MaxAttempts:          readAttempts,
			InitialBackoff:       "0.1s",
			MaxBackoff:           "1s",
			BackoffMultiplier:    2,
			RetryableStatusCodes: []string{"UNAVAILABLE"},
		},
	}}})
	return string(text), err
}
