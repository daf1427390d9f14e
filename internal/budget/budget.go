// Package budget bounds the memory that calls in flight hold: their request bodies and replies.
//
// A call is admitted if there is room for what it is expected to hold, and refused before anything
// is sent otherwise. What its reply will take is not known then, so the budget remembers the sizes
// of earlier replies. The reply of a method that only reads is received only up to the size that
// was reserved for it, so an unexpectedly large one cannot exceed the budget either.
//
// Memory is counted in bytes of the wire form, which is what the gateway keeps of a reply, plus a
// fixed amount for each call.
package budget

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	// MinLimit is the least limit, in bytes. With less, the calls of a few callers would fill it.
	MinLimit = 16 << 20

	// perCall is what a unary call holds besides its body and its reply, in bytes: stacks, the
	// buffers of its connections, and its headers. A thousand calls that wait for the upstream
	// take 41 MB. perStream is less than the 70 KB that a stream takes, because the number of
	// open streams has its own limits.
	perCall   = 40 << 10
	perStream = 16 << 10
	// bodyFactor is the memory that a body takes, as a multiple of its size: the JSON, its text
	// in the request message, and the message's wire form. Its structure takes more
	// ([Lease.GrowBody]).
	bodyFactor = 3
	// receiveFactor is the memory that a reply takes while it is received, as a multiple of its
	// size: the buffers of the upstream connection, and the copy that the gateway keeps of it.
	receiveFactor = 2

	// shareOf is the part of the limit that one caller may hold, and reservedOf the part of the
	// limit, and of each share, that is kept for writes.
	shareOf    = 4
	reservedOf = 10

	retryDelay = time.Second
)

// Options configure a [Budget].
type Options struct {
	// Limit is the number of bytes that all calls together may hold. It should be at least
	// [MinLimit].
	Limit int64
	// MaxReply is the size of the largest reply that the upstream connection accepts, in bytes.
	MaxReply int64
}

// Budget is the memory of all calls in flight. It is safe for concurrent use.
type Budget struct {
	limit, maxReply int64
	seed            maphash.Seed

	mu   sync.Mutex
	held int64
	// callers is what each caller holds. It has no entry for callers that hold nothing.
	callers map[Caller]int64
	rpcs    map[string]*sizes
	// lately has the sizes of replies to callers for which the estimate of the RPC is wrong. Each
	// has one place, and the last one keeps it.
	lately              [1024]unusual
	refused, overshoots uint64
}

// unusual is the size of the replies of an RPC to a caller, in bytes, which decays. Both are in the
// hash.
type unusual struct {
	hash uint64
	size int64
}

// New returns a budget of which nothing is held.
func New(o Options) *Budget {
	return &Budget{
		limit: o.Limit, maxReply: o.MaxReply, seed: maphash.MakeSeed(),
		callers: make(map[Caller]int64), rpcs: make(map[string]*sizes),
	}
}

// Limit returns the limit in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Held returns the number of bytes that calls in flight hold or have reserved.
func (b *Budget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// Refused returns the number of calls that were refused.
func (b *Budget) Refused() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// Overshoots returns the number of replies that took the budget over its limit. They were
// delivered.
func (b *Budget) Overshoots() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.overshoots
}

// Caller identifies who makes a call, such as by the hash of a key.
type Caller [32]byte

// Call is a call that is to be admitted.
type Call struct {
	// Caller is counted against its share.
	Caller Caller
	// RPC is the full name of the method.
	RPC string
	// Write reports whether the method writes. The reply to a write is always delivered.
	Write bool
	// List reports whether the reply is a list, which may be large.
	List bool
	// Stream reports whether the method is server-streaming.
	Stream bool
	// Body is the size of the request body in bytes. It is negative if it is not known; the body
	// must then be read through [Lease.Body].
	Body int64
}

// Lease is what one call holds. It is also the context of the call, so that [Of] finds it without
// another allocation. It must be released once nothing else uses it.
type Lease struct {
	context.Context

	budget *Budget
	caller Caller
	hash   uint64 // of the caller and the RPC
	sizes  *sizes
	write  bool
	// limit is the size up to which the reply may be received, in bytes.
	limit int64
	// What is held, in bytes. reply is the reservation until the reply is known. other is for the
	// call itself and for what is needed to write the reply.
	body, reply, other int64
	known, released    bool
}

type leaseKey struct{}

// Value implements [context.Context].
func (l *Lease) Value(key any) any {
	if key == (leaseKey{}) {
		return l
	}
	return l.Context.Value(key)
}

// Of returns the lease of a call by its context, or nil if it has none.
func Of(ctx context.Context) *Lease {
	lease, _ := ctx.Value(leaseKey{}).(*Lease)
	return lease
}

// Admit reserves what a call is expected to hold. The error is an [apierror.Error] that says that
// nothing was sent.
//
// A call needs its body and the usual size of a reply: a high percentile of the replies of the RPC
// or, for a caller to whom others are sent, what it got lately. All calls together hold at
// most the limit, and those of one caller at most a quarter of it. A tenth of both is kept for
// writes. In these checks a call counts for at most half of what may be held, so that a reply
// larger than a share, or than the whole budget, is served as long as less than half is held.
func (b *Budget) Admit(ctx context.Context, c Call) (*Lease, error) {
	hash := maphash.Comparable(b.seed, c.Caller)
	lease := &Lease{Context: ctx, budget: b, caller: c.Caller, write: c.Write, body: bodyFactor * max(c.Body, 0), other: perCall}
	b.mu.Lock()
	lease.sizes = b.sizesOf(c)
	lease.hash = hash + lease.sizes.salt
	own := b.lately[lease.hash%uint64(len(b.lately))]
	switch {
	case c.Stream:
		lease.other = perStream // and each message while it is written
	case own.hash == lease.hash:
		lease.limit = max(minExpected, own.size+own.size/8)
	default:
		lease.limit = lease.sizes.expected
	}
	lease.limit = min(lease.limit, b.maxReply)
	lease.reply = receiveFactor * lease.limit
	err := b.reserve(lease, lease.body+lease.reply+lease.other)
	b.mu.Unlock()
	if err != nil {
		return nil, refuse(err, false)
	}
	return lease, nil
}

func (b *Budget) sizesOf(c Call) *sizes {
	known := b.rpcs[c.RPC]
	if known == nil {
		known = newSizes(uint64(len(b.rpcs)), c.List && !c.Write)
		b.rpcs[c.RPC] = known
	}
	return known
}

// reserve adds to what a call holds, if there is room for it, and counts a refusal otherwise.
func (b *Budget) reserve(l *Lease, more int64) error {
	all, share := b.limit, b.limit/shareOf
	if !l.write {
		all, share = all-all/reservedOf, share-share/reservedOf
	}
	switch {
	case b.held+min(more, all/2) > all:
		b.refused++
		return errFull
	case b.callers[l.caller]+min(more, share/2) > share:
		b.refused++
		return errShare
	}
	b.add(l.caller, more)
	return nil
}

// add adds to what a caller holds.
func (b *Budget) add(caller Caller, bytes int64) {
	b.held += bytes
	if left := b.callers[caller] + bytes; left > 0 {
		b.callers[caller] = left
	} else {
		delete(b.callers, caller)
	}
}

var (
	errFull  = errors.New("the budget is full")
	errShare = errors.New("the share of the caller is full")
)

const (
	noMemory = "The gateway has no memory for another call at the moment. "
	noShare  = "The calls of this API key already take as much memory of the gateway as those of one key may. "

	nothingSent = "Nothing was sent to the Mesh API. Try again in 1 second."
	onlyRead    = "The request was sent to the Mesh API, but it is read-only and safe to repeat. Try again in 1 second."
)

// refuse returns the error of a call that does not fit. The call may have been sent before, if it
// only reads.
func refuse(why error, sent bool) error {
	message, retry := noMemory, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)}
	if errors.Is(why, errShare) {
		message = noShare
	}
	if sent {
		return apierror.NewSent(codes.Unavailable, apierror.Overloaded, message+onlyRead, retry)
	}
	return apierror.New(codes.Unavailable, apierror.Overloaded, message+nothingSent, retry)
}

// Limit returns the size up to which a reply may be received, in bytes, or 0 if any size may. A
// larger reply must not be received unless [Lease.Grow] allows it.
func (l *Lease) Limit() int64 {
	if l.write {
		return 0
	}
	return l.limit
}

// Grow raises [Lease.Limit] to a size that exceeds it, and a little more. If there is no room for
// it, the error says that the call was sent, and that it is read-only and safe to repeat. A size
// above MaxReply has no effect.
func (l *Lease) Grow(size int64) error {
	b := l.budget
	if size > b.maxReply {
		return nil
	}
	b.mu.Lock()
	l.learn(size)
	limit := min(max(size+size/8, l.limit), b.maxReply) // it may grow until the call is repeated
	err := b.reserve(l, receiveFactor*limit-l.reply)
	if err == nil {
		l.limit = limit
		l.set(receiveFactor * limit)
	}
	b.mu.Unlock()
	if err != nil {
		return refuse(err, true)
	}
	return nil
}

// Hold replaces the reservation, or what was held, by the size of the reply, in bytes.
func (l *Lease) Hold(size int64) {
	b := l.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	l.learn(size)
	b.add(l.caller, size-l.reply)
	l.set(size)
}

// Add counts memory that is needed to write the reply, in bytes, besides the reply itself.
func (l *Lease) Add(bytes int64) {
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	l.budget.add(l.caller, bytes)
	l.other += bytes
}

// learn keeps the size of the call's first reply for the estimates.
func (l *Lease) learn(size int64) {
	if l.known {
		return
	}
	l.known = true
	own := &l.budget.lately[l.hash%uint64(len(l.budget.lately))]
	switch expected := l.sizes.expected; {
	case own.hash == l.hash:
		own.size = max(size, own.size-own.size/16)
	case size > expected, max(size, minExpected) < expected/4:
		*own = unusual{l.hash, size}
	}
	l.sizes.add(size)
}

// set sets the size of the reply, which was added, and counts it if it took the budget over its
// limit.
func (l *Lease) set(size int64) {
	if size > l.reply && l.budget.held > l.budget.limit {
		l.budget.overshoots++
	}
	l.reply = size
}

// Release returns what is held. Only the first call has an effect. The lease may be nil.
func (l *Lease) Release() {
	if l == nil {
		return
	}
	b := l.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.released {
		return
	}
	l.released = true
	b.add(l.caller, -(l.body + l.reply + l.other))
}

// Body returns a body of unknown size that is counted as it is read. If there is no room for more
// of it, reading fails with an [apierror.Error].
func (l *Lease) Body(body io.ReadCloser) io.ReadCloser { return &countedBody{body, l} }

type countedBody struct {
	io.ReadCloser
	lease *Lease
}

func (c *countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if n > 0 {
		if refused := c.lease.GrowBody(bodyFactor * int64(n)); refused != nil {
			return 0, refused
		}
	}
	return n, err
}

// GrowBody makes room for more memory that the request body takes, in bytes. The error says that
// nothing was sent.
func (l *Lease) GrowBody(more int64) error {
	b := l.budget
	b.mu.Lock()
	err := b.reserve(l, more)
	if err == nil {
		l.body += more
	}
	b.mu.Unlock()
	if err != nil {
		return refuse(err, false)
	}
	return nil
}
