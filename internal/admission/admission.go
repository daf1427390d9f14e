// Package admission decides when a call may go to the upstream, so that an overload is refused early
// instead of being answered too late.
//
// Two things can be overloaded. The upstream is, if calls to a service take longer because they wait
// there for each other. Each service then has a limit of calls in flight, which follows from what it
// gets done (service.go). The gateway itself is, if its goroutines wait for a CPU. All calls then
// have a limit (cpu.go). Without an overload there is no limit, and nothing waits or is refused.
//
// Calls above a limit wait in the gateway, writes before reads before streams, and are refused once
// they have waited too long. A write is also refused if its deadline comes before the upstream would
// have finished it (need.go). Nothing was sent of what is refused.
package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// Class is the priority of a call. A lower value goes first.
type Class int

// The classes of calls.
const (
	Write Class = iota
	Read
	Stream

	classes = 3
)

// Classes returns all classes, by their priority.
func Classes() []Class { return []Class{Write, Read, Stream} }

// String returns the name of the class in metrics.
func (c Class) String() string { return [classes]string{"write", "read", "stream"}[c] }

// ClassOf returns the class of a method.
func ClassOf(method *contract.Method) Class {
	switch {
	case method.Write:
		return Write
	case method.Streams():
		return Stream
	default:
		return Read
	}
}

// longestWait is how long a call of the class waits at most. To send a read again is cheap, while the
// client of a write has more to lose. A read that waited for longer would only make others late.
func (c Class) longestWait() time.Duration {
	if c == Write {
		return 5 * time.Second
	}
	return 500 * time.Millisecond
}

// Control admits the calls of all services. It is safe for concurrent use.
type Control struct {
	cpu      *cpu
	services []*Service
	methods  map[string]*method // by the full name

	refused [classes]atomic.Uint64
	late    atomic.Uint64
}

// New returns a Control for the methods. It has seen no calls and limits none.
func New(methods []*contract.Method) *Control {
	c := &Control{cpu: newCPU(readSchedule()), methods: make(map[string]*method)}
	services := make(map[string]*Service)
	for _, m := range methods {
		name := string(m.Descriptor.Parent().FullName())
		s := services[name]
		if s == nil {
			s = newService(name)
			services[name] = s
			c.services = append(c.services, s)
		}
		c.methods[m.Name()] = s.add(ClassOf(m))
	}
	return c
}

// Services returns the services, in the order of the methods that New was given.
func (c *Control) Services() []*Service { return c.services }

// Refused returns the number of calls of a class that were refused because of an overload.
func (c *Control) Refused(class Class) uint64 { return c.refused[class].Load() }

// Late returns the number of writes that were refused because too little time was left.
func (c *Control) Late() uint64 { return c.late.Load() }

// GatewayLimit returns how many calls of all services may be in the gateway, or 0 if there is no
// limit.
func (c *Control) GatewayLimit() int64 { return c.cpu.gate.Limit() }

// InGateway returns the number of calls that Enter admitted and that have not ended, without streams.
func (c *Control) InGateway() int64 { return c.cpu.gate.inFlight.Load() }

// Enter admits a call to the gateway, before its body is read. It waits if the gateway is overloaded,
// and refuses the call at once if the service has more waiting calls than it can take. It returns
// how long it waited.
//
// leave must be called when a call has ended that Enter admitted. timeout is the time that the call
// has, or 0 if it is not limited. rpc is the full name of the method.
func (c *Control) Enter(ctx context.Context, rpc string, timeout time.Duration) (waited time.Duration, err error) {
	m := c.methods[rpc]
	if m == nil {
		return 0, nil // not a call
	}
	wait := m.class.longestWait()
	if timeout > 0 {
		wait = min(wait, timeout/2)
	}
	if m.service.gate.full(m.class, wait) {
		return 0, c.refuse(m, errFull)
	}
	c.cpu.adjust(time.Now())
	waited, err = c.cpu.gate.enter(ctx, m.class, wait)
	if errors.Is(err, errFull) {
		err = errBusy
	}
	if err != nil {
		return waited, c.refuse(m, err)
	}
	if m.class == Stream {
		// It does not count, since it may be idle for its whole life.
		c.cpu.gate.leave()
	}
	return waited, nil
}

// Leave ends a call that Enter admitted.
func (c *Control) Leave(rpc string) {
	if m := c.methods[rpc]; m != nil && m.class != Stream {
		c.cpu.done.Add(1)
		c.cpu.gate.leave()
	}
}

// Limit returns a connection that admits calls to their services and then makes them over conn. A
// stream is admitted when it is opened, and does not count afterwards.
//
// It comes before whatever a refused call must not pass, such as the records of idempotency keys.
// Between it and the upstream must be the connection of [Control.Measure].
func (c *Control) Limit(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	return limited{c, conn}
}

// Measure returns a connection that makes calls over conn, and measures how long they take. Limits
// follow from that alone, and not from how fast clients send and read.
func (c *Control) Measure(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	return measured{c, conn}
}

type limited struct {
	control *Control
	conn    grpc.ClientConnInterface
}

// Invoke implements [grpc.ClientConnInterface].
func (l limited) Invoke(ctx context.Context, name string, args, reply any, opts ...grpc.CallOption) error {
	m := l.control.methods[name]
	if m == nil {
		return l.conn.Invoke(ctx, name, args, reply, opts...)
	}
	if err := l.control.admit(ctx, m); err != nil {
		return err
	}
	if m.class != Write {
		defer m.service.gate.leave()
		return l.conn.Invoke(ctx, name, args, reply, opts...)
	}
	// A write whose connection was lost without notice waits for its deadline, and is no load for
	// the service meanwhile.
	leave := sync.OnceFunc(m.service.gate.leave)
	defer leave()
	return l.conn.Invoke(upstream.WithLost(ctx, leave), name, args, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface].
func (l limited) NewStream(ctx context.Context, desc *grpc.StreamDesc, name string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	m := l.control.methods[name]
	if m == nil {
		return l.conn.NewStream(ctx, desc, name, opts...)
	}
	if err := l.control.admit(ctx, m); err != nil {
		return nil, err
	}
	defer m.service.gate.leave()
	return l.conn.NewStream(ctx, desc, name, opts...)
}

// admit admits a call to its service.
func (c *Control) admit(ctx context.Context, m *method) error {
	wait := m.class.longestWait()
	if deadline, limited := ctx.Deadline(); limited {
		left := time.Until(deadline)
		if m.class == Write {
			if err := c.inTime(m, left); err != nil {
				return err
			}
			wait = min(wait, left/4*3) // what it needs then may be less than what it needs now
		} else {
			wait = min(wait, left/2)
		}
	}
	waited, err := m.service.gate.enter(ctx, m.class, wait)
	if err != nil {
		return c.refuse(m, err)
	}
	if deadline, limited := ctx.Deadline(); limited && waited > 0 && m.class == Write {
		if err := c.inTime(m, time.Until(deadline)); err != nil {
			m.service.gate.leave()
			return err
		}
	}
	return nil
}

// inTime returns an error if the upstream takes longer for a write than is left.
func (c *Control) inTime(m *method, left time.Duration) error {
	need := m.need.now()
	if left >= need || m.need.probe() {
		return nil
	}
	c.late.Add(1)
	return apierror.New(codes.Unavailable, apierror.Overloaded,
		fmt.Sprintf("The Mesh API takes about %s for this write at the moment, and only %s are left until its deadline. Nothing was sent to the Mesh API. Try again in 1 second, or with a longer Request-Timeout.",
			rounded(need), rounded(left)), retryInfo())
}

func rounded(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

var (
	errFull = errors.New("too many calls wait for the service")
	errBusy = errors.New("too many calls wait for the gateway")
)

// refuse counts a refusal and returns the error for the client.
func (c *Control) refuse(m *method, why error) error {
	const nothingSent = "Nothing was sent to the Mesh API. Try again in 1 second."
	switch {
	case errors.Is(why, context.Canceled):
		return apierror.New(codes.Canceled, apierror.ClientClosedRequest, "The client closed the request. Nothing was sent to the Mesh API.")
	case errors.Is(why, errBusy):
		c.refused[m.class].Add(1)
		return apierror.New(codes.Unavailable, apierror.Overloaded, "The gateway gets more calls than it can process at the moment. "+nothingSent, retryInfo())
	default: // also the deadline of the call
		c.refused[m.class].Add(1)
		return apierror.New(codes.Unavailable, apierror.Overloaded,
			m.service.short()+" of the Mesh API gets more calls than it can process at the moment. "+nothingSent, retryInfo())
	}
}

func retryInfo() *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}
}

func (s *Service) short() string { return s.name[strings.LastIndexByte(s.name, '.')+1:] }

type measured struct {
	control *Control
	conn    grpc.ClientConnInterface
}

// Invoke implements [grpc.ClientConnInterface].
func (m measured) Invoke(ctx context.Context, name string, args, reply any, opts ...grpc.CallOption) error {
	start := time.Now()
	err := m.conn.Invoke(ctx, name, args, reply, opts...)
	if method := m.control.methods[name]; method != nil {
		method.observe(start, time.Now(), err)
	}
	return err
}

// NewStream implements [grpc.ClientConnInterface].
func (m measured) NewStream(ctx context.Context, desc *grpc.StreamDesc, name string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return m.conn.NewStream(ctx, desc, name, opts...)
}
