// Package upstream connects to the Mesh gRPC API. It configures TLS, keepalive and reconnection,
// keeps a pool of connections that leaves those that are silent, repeats reads, and returns errors
// that say whether a failed call was sent.
package upstream

import (
	"context"
	"crypto/tls"
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
)

// DefaultTarget is the production address of the Mesh API. It requires TLS.
const DefaultTarget = "production-service-mesh-api-gateway-lb-frontend.mesh.trade:443"

// MaxReplyBytes is the maximum size of a message from the upstream, 64 MiB. Account reports as Excel
// workbooks exceed grpc-go's default of 4 MiB.
const MaxReplyBytes = 64 << 20

const (
	// DefaultConnections is the default number of connections. More than one is for the time when
	// one is lost: calls then use the other, instead of failing until it is connected again.
	//
	// On two cores, more connections are not faster. CPU time per request in relation to one
	// connection, medians of 7 rounds: of a small reply, 1.02 with two connections, 1.04 with four
	// and 1.08 with eight; of a list of 1,000 accounts, at 128 clients, 1.01, 0.99 and 1.01, while
	// its p99 latency is 1.2, 1.5 and 2.0 times that of one.
	DefaultConnections = 2
	// MaxConnections is the maximum number of connections.
	MaxConnections = 64
)

const (
	// The default enforcement policy of gRPC servers allows one ping in 5 minutes. Servers respond
	// to more frequent pings with GOAWAY, which would abort calls in flight.
	keepaliveTime    = 5 * time.Minute
	keepaliveTimeout = 20 * time.Second

	// The default backoff grows to 2 minutes. For that time the gateway would still reject requests
	// after the upstream has recovered. The longest delay is 0.48 s, jitter included.
	reconnectBase   = 100 * time.Millisecond
	reconnectFactor = 1.6
	reconnectJitter = 0.2
	reconnectMax    = 400 * time.Millisecond
	// connectTimeout is the time for an attempt to connect. A network that drops packets does not
	// refuse an attempt, and TCP repeats its SYN more and more rarely, so the attempt is given up
	// and another begins. It leaves time for the round trips of TCP, TLS and HTTP/2 over a slow
	// network.
	connectTimeout = 3 * time.Second
)

// Options configure the connections of a pool.
type Options struct {
	// Plaintext disables TLS. It is only for a local upstream, since each call contains the API
	// key.
	Plaintext bool
	// TLS, if not nil, returns the configuration of the next connection, in place of the default
	// (system roots, TLS 1.2 or later). Certificates can so be replaced while the pool is in use. A
	// lower MinVersion is raised to TLS 1.2. It must be nil if Plaintext is set.
	TLS func() *tls.Config
	// UserAgent is the user agent, to which grpc-go appends its own.
	UserAgent string
	// Connections is the number of connections. 0 is one connection.
	Connections int
	// Dialer, if not nil, opens connections instead of the network. It is used for a Mesh in the
	// same process. The target is then only a name.
	Dialer func(context.Context) (net.Conn, error)
}

// Dial returns a pool of connections to target, host:port. It does not connect: that happens on the
// first calls or when Connect is called. The caller must close the pool.
//
// A READ method of the contract waits for a connection while an outage is short, and is repeated if
// its answer is lost; [Pool.Invoke] has the rules. All other methods are treated as WRITE and sent at
// most once.
//
// grpc-go may still send a call again transparently. It does so only if the upstream has certainly
// not processed it (RFC 9113, section 8.7: REFUSED_STREAM, or a GOAWAY that excludes the stream).
//
// The error of a call is either the unchanged status that the upstream sent, or an
// [apierror.Error] whose cause is the error of grpc-go.
func Dial(target string, opts Options) (*Pool, error) {
	address, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	transport, err := transportCredentials(opts)
	if err != nil {
		return nil, err
	}
	// The flow control windows are not set, so that grpc-go sizes them by its estimate of bandwidth
	// times delay. Static windows from 64 KiB to 4 MiB took the same CPU time for large replies (0.95
	// to 1.03). With a round trip of 20 ms and windows of 256 KiB for a stream and 1 MiB for a
	// connection, lists of 1,000 accounts took 1.9 times as long for 4 clients and 5.5 times for 128.
	// Buffers other than the default of 32 KiB, from 8 to 256 KiB, took 0.96 to 1.11 of the CPU time.
	dialOptions := []grpc.DialOption{
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
			MinConnectTimeout: connectTimeout,
		}),
		// The pool keeps its connections.
		grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxReplyBytes)),
		// A service config from DNS could make writes retryable.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithStatsHandler(observer{}),
	}
	if opts.UserAgent != "" {
		dialOptions = append(dialOptions, grpc.WithUserAgent(opts.UserAgent))
	}
	scheme := "dns:///"
	if opts.Dialer != nil {
		scheme = "passthrough:///"
		dialOptions = append(dialOptions, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return opts.Dialer(ctx) }))
	}
	return newPool(max(opts.Connections, 1), func(c *conn) (*grpc.ClientConn, error) {
		// Without an explicit scheme, a host named "unix" or "dns" would be parsed as one.
		return grpc.NewClient(scheme+address, append(dialOptions[:len(dialOptions):len(dialOptions)],
			grpc.WithTransportCredentials(&meter{transport, c}))...)
	})
}

// serviceConfig makes the connections of a pool go to different addresses, if the name of the
// upstream has several. Otherwise all of them would go to the first.
const serviceConfig = `{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}`

// parseTarget returns target in the form host:port, or an error that says what is wrong with it.
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
		return wrong("has a character in its host that is not allowed in host names")
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
			return nil, errors.New("upstream: Options.TLS must be nil if Options.Plaintext is set")
		}
		return insecure.NewCredentials(), nil
	}
	if opts.TLS == nil {
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), nil
	}
	return tlsCredentials{opts.TLS}, nil
}
