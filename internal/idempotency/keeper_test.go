package idempotency_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
)

const timeout = 30 * time.Second

// desk is a keeper with a store, and a Mesh that counts its calls.
type desk struct {
	*testing.T
	store  idempotency.Store
	keeper *idempotency.Keeper
	log    *bytes.Buffer
	calls  int
}

// test runs a test with a clock of its own.
func test(t *testing.T, f func(d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newDesk(t, memstore.New(memstore.DefaultLimits()))) })
}

func newDesk(t *testing.T, store idempotency.Store) *desk {
	log := new(bytes.Buffer)
	return &desk{T: t, store: store, keeper: idempotency.NewKeeper(store, slog.New(slog.NewTextHandler(log, nil))), log: log}
}

func transfer(key string) idempotency.Request {
	return idempotency.Request{Key: key, APIKey: apiKey, Group: group, Method: createTransfer, Message: transferOf("1")}
}

func order(key string) idempotency.Request {
	r := transfer(key)
	r.Method, r.Message = "/meshtrade.trading.limit_order.v1.LimitOrderService/CreateLimitOrder", orderOf("accounts/1")
	return r
}

// do makes a request whose call has the outcome.
func (d *desk) do(request idempotency.Request, outcome idempotency.Outcome) (idempotency.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request.Message = proto.Clone(request.Message)
	return d.keeper.Do(ctx, request, func(context.Context) idempotency.Outcome {
		d.calls++
		return outcome
	})
}

// want checks an error of the gateway and the number of calls so far.
func (d *desk) want(err error, httpStatus int, reason apierror.Reason, calls int, parts ...string) {
	d.Helper()
	// A client that is told that nothing was sent may use a new key.
	sent := "true"
	switch reason {
	case apierror.IdempotencyKeyReused, apierror.RateLimited, apierror.UpstreamUnreachable, apierror.ClientClosedRequest, apierror.Internal:
		sent = "false"
	case apierror.IdempotencyUnavailable:
		sent = strconv.FormatBool(strings.Contains(err.Error(), "another version"))
	}
	for _, detail := range apierror.Status(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetMetadata()["sent"] != sent {
			d.Errorf("sent is %q, want %s: %v", info.GetMetadata()["sent"], sent, err)
		}
	}
	if apierror.HTTPStatusOf(err) != httpStatus || apierror.ReasonOf(err) != string(reason) {
		d.Errorf("status %d, reason %q, want %d and %s: %v", apierror.HTTPStatusOf(err), apierror.ReasonOf(err), httpStatus, reason, err)
	}
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			d.Errorf("%v does not say %q", err, part)
		}
	}
	d.wantCalls(calls)
}

func (d *desk) wantCalls(calls int) {
	d.Helper()
	if d.calls != calls {
		d.Errorf("%d calls, want %d", d.calls, calls)
	}
}

func TestReplyIsReplayed(t *testing.T) {
	for name, reply := range map[string][]byte{"a reply": []byte("reply"), "an empty reply": {}, "no bytes": nil} {
		t.Run(name, func(t *testing.T) {
			test(t, func(d *desk) {
				for i := range 3 {
					answer, err := d.do(transfer("a"), idempotency.Replied(reply))
					if err != nil || !bytes.Equal(answer.Reply, reply) || answer.Replayed != (i > 0) {
						t.Errorf("request %d: %+v, %v", i, answer, err)
					}
				}
				d.wantCalls(1)
			})
		})
	}
}

// TestStatusOfMesh has every code, and what a repeated request gets.
func TestStatusOfMesh(t *testing.T) {
	const (
		replayed = iota
		calledAgain
		unknown
	)
	for code, want := range map[codes.Code]int{
		codes.InvalidArgument: replayed, codes.NotFound: replayed, codes.AlreadyExists: replayed, codes.PermissionDenied: replayed,
		codes.FailedPrecondition: replayed, codes.OutOfRange: replayed, codes.Unimplemented: replayed,
		codes.Unauthenticated: calledAgain, codes.ResourceExhausted: calledAgain,
		codes.Canceled: unknown, codes.Unknown: unknown, codes.DeadlineExceeded: unknown, codes.Aborted: unknown,
		codes.Internal: unknown, codes.Unavailable: unknown, codes.DataLoss: unknown, codes.Code(99): unknown,
	} {
		t.Run(code.String(), func(t *testing.T) {
			test(t, func(d *desk) {
				refusal := status.Error(code, "no")
				if _, err := d.do(transfer("a"), idempotency.RefusedByMesh(refusal)); !errors.Is(err, refusal) {
					t.Errorf("the first answer: %v", err)
				}
				time.Sleep(timeout + idempotency.Margin + 1)
				answer, err := d.do(transfer("a"), idempotency.Replied([]byte("reply")))
				switch want {
				case replayed:
					if status.Code(err) != code || status.Convert(err).Message() != "no" || !answer.Replayed {
						t.Errorf("%+v, %v", answer, err)
					}
					d.wantCalls(1)
				case calledAgain:
					if err != nil || answer.Replayed {
						t.Errorf("%+v, %v", answer, err)
					}
					d.wantCalls(2)
				case unknown:
					d.want(err, http.StatusConflict, apierror.OutcomeUnknown, 1)
				}
			})
		})
	}
}

func TestReplayedStatusIsWhole(t *testing.T) {
	test(t, func(d *desk) {
		refusal, err := status.New(codes.FailedPrecondition, "not \xff valid").WithDetails(&errdetails.ErrorInfo{Reason: "NO_FUNDS", Domain: "mesh"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = d.do(transfer("a"), idempotency.RefusedByMesh(refusal.Err()))
		_, replayed := d.do(transfer("a"), idempotency.Outcome{})
		if got := status.Convert(replayed); got.Code() != codes.FailedPrecondition || got.Message() != "not \ufffd valid" || len(got.Details()) != 1 {
			t.Errorf("%v", got)
		}
		d.wantCalls(1)
	})
}

func TestRequestThatWasNotSentReleasesItsKey(t *testing.T) {
	test(t, func(d *desk) {
		refusal := apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent.")
		if _, err := d.do(transfer("a"), idempotency.NotSent(refusal)); !errors.Is(err, refusal) {
			t.Error(err)
		}
		if answer, err := d.do(transfer("a"), idempotency.Replied([]byte("reply"))); err != nil || answer.Replayed {
			t.Errorf("%+v, %v", answer, err)
		}
		d.wantCalls(2)
	})
}

func TestUnanswered(t *testing.T) {
	for _, test := range []struct {
		name string
		call func(context.Context) idempotency.Outcome
	}{
		{"no answer", func(context.Context) idempotency.Outcome { return idempotency.Unanswered(errors.New("lost")) }},
		{"an outcome that says nothing", func(context.Context) idempotency.Outcome { return idempotency.Outcome{} }},
		{"a panic", func(context.Context) idempotency.Outcome { panic("x") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, memstore.New(memstore.DefaultLimits()))
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				func() {
					defer func() { _ = recover() }()
					if _, err := d.keeper.Do(ctx, transfer("a"), test.call); err == nil {
						t.Error("there was no error")
					}
				}()
				for _, step := range []struct {
					after  time.Duration
					reason apierror.Reason
				}{
					{0, apierror.IdempotencyKeyInUse},
					{timeout + idempotency.Margin, apierror.IdempotencyKeyInUse},
					{1, apierror.OutcomeUnknown},
					{1000 * time.Hour, apierror.OutcomeUnknown},
				} {
					time.Sleep(step.after)
					_, err := d.do(transfer("a"), idempotency.Replied(nil))
					d.want(err, http.StatusConflict, step.reason, 0)
				}
			})
		})
	}
}

func TestUnknownSaysHowToLook(t *testing.T) {
	test(t, func(d *desk) {
		_, _ = d.do(order("a"), idempotency.Unanswered(errors.New("lost")))
		time.Sleep(timeout + idempotency.Margin + 1)
		_, err := d.do(order("a"), idempotency.Replied(nil))
		reference := idempotency.SetReference(orderOf("x"), idempotency.IDOf(idempotency.CallerOf(apiKey), group, order("a").Method, "a"))
		d.want(err, http.StatusConflict, apierror.OutcomeUnknown, 1, "GET /v1/limit_orders (ListLimitOrders)", reference)
	})
}

func TestInFlight(t *testing.T) {
	test(t, func(d *desk) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		_, err := d.keeper.Do(ctx, transfer("a"), func(context.Context) idempotency.Outcome {
			_, err := d.do(transfer("a"), idempotency.Replied(nil))
			d.want(err, http.StatusConflict, apierror.IdempotencyKeyInUse, 0, "It was not sent again")
			return idempotency.Replied(nil)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestAnotherRequestWithTheKey(t *testing.T) {
	other := transfer("a")
	other.Message = transferOf("2")
	for name, outcome := range map[string]idempotency.Outcome{
		"after a reply":   idempotency.Replied(nil),
		"after a refusal": idempotency.RefusedByMesh(status.Error(codes.NotFound, "no")),
		"in flight":       idempotency.Unanswered(errors.New("lost")),
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(d *desk) {
				_, _ = d.do(transfer("a"), outcome)
				_, err := d.do(other, idempotency.Replied(nil))
				d.want(err, http.StatusUnprocessableEntity, apierror.IdempotencyKeyReused, 1, "Nothing was sent")
			})
		})
	}
}

func TestScope(t *testing.T) {
	for name, change := range map[string]func(*idempotency.Request){
		"another key":     func(r *idempotency.Request) { r.Key = "b" },
		"another API key": func(r *idempotency.Request) { r.APIKey = strings.Repeat("x", 43) },
		"another group":   func(r *idempotency.Request) { r.Group = "groups/01ARZ3NDEKTSV4RRFFQ69G5FAW" },
		"another method":  func(r *idempotency.Request) { r.Method = "/other" },
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(d *desk) {
				_, _ = d.do(transfer("a"), idempotency.Replied([]byte("first")))
				other := transfer("a")
				change(&other)
				if answer, err := d.do(other, idempotency.Replied([]byte("second"))); err != nil || string(answer.Reply) != "second" {
					t.Errorf("%+v, %v", answer, err)
				}
				d.wantCalls(2)
			})
		})
	}
}

func TestAnswerThatIsGone(t *testing.T) {
	refusal := idempotency.RefusedByMesh(status.Error(codes.NotFound, "no"))
	for _, test := range []struct {
		name    string
		outcome idempotency.Outcome
		after   time.Duration
		gone    bool
		want    string
	}{
		{"below the replay time", idempotency.Replied([]byte("reply")), idempotency.ReplayTime - 1, false, ""},
		{"at the replay time", idempotency.Replied([]byte("reply")), idempotency.ReplayTime, true, "was carried out"},
		{"a refusal at the replay time", refusal, idempotency.ReplayTime, true, "not carried out"},
		{"below the retention", idempotency.Replied([]byte("reply")), idempotency.Retention - 1, true, "was carried out"},
		{"the largest reply", idempotency.Replied(make([]byte, 1<<20)), 0, false, ""},
		{"a larger reply", idempotency.Replied(make([]byte, 1<<20+1)), 0, true, "was carried out"},
	} {
		for _, purged := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDesk(t, memstore.New(memstore.DefaultLimits()))
					_, _ = d.do(transfer("a"), test.outcome)
					time.Sleep(test.after)
					if purged {
						if _, err := d.store.Purge(context.Background()); err != nil {
							t.Fatal(err)
						}
					}
					answer, err := d.do(transfer("a"), idempotency.Replied(nil))
					if !test.gone && (err != nil || !answer.Replayed) {
						t.Errorf("%+v, %v", answer, err)
					}
					if test.gone {
						d.want(err, http.StatusConflict, apierror.AlreadyFinished, 1, test.want)
					}
				})
			})
		}
	}
}

func TestRunPurges(t *testing.T) {
	test(t, func(d *desk) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan struct{})
		go func() { d.keeper.Run(ctx); close(ended) }()
		_, _ = d.do(transfer("a"), idempotency.Replied(nil))
		time.Sleep(idempotency.Retention + 2*time.Minute)
		if _, err := d.do(transfer("a"), idempotency.Replied(nil)); err != nil {
			t.Error(err)
		}
		d.wantCalls(2)
		cancel()
		<-ended
	})
}

func TestSettled(t *testing.T) {
	test(t, func(d *desk) {
		_, _ = d.do(transfer("a"), idempotency.Unanswered(errors.New("lost")))
		time.Sleep(timeout + idempotency.Margin + 1)
		var claimed idempotency.Record
		if err := d.store.List(context.Background(), idempotency.Filter{Key: "a"}, func(r idempotency.Record, _ time.Time) error { claimed = r; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := d.store.Settle(context.Background(), claimed.ID, claimed.Token, true); err != nil {
			t.Fatal(err)
		}
		_, err := d.do(transfer("a"), idempotency.Replied(nil))
		d.want(err, http.StatusConflict, apierror.AlreadyFinished, 1, "was carried out", "GET /v1/wallet/transfers")
	})
}

// TestClientIsGone cancels the request during the call: the answer must be there when the client
// comes back.
func TestClientIsGone(t *testing.T) {
	test(t, func(d *desk) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		want, _ := ctx.Deadline()
		_, err := d.keeper.Do(ctx, transfer("a"), func(ctx context.Context) idempotency.Outcome {
			cancel()
			if got, ok := ctx.Deadline(); !ok || !got.Equal(want) || ctx.Err() != nil {
				t.Errorf("the call has the deadline %s, %t and is cancelled: %v", got, ok, ctx.Err())
			}
			return idempotency.Replied([]byte("reply"))
		})
		if err != nil {
			t.Error(err)
		}
		if answer, err := d.do(transfer("a"), idempotency.Replied(nil)); err != nil || string(answer.Reply) != "reply" || !answer.Replayed {
			t.Errorf("%+v, %v", answer, err)
		}
	})
}

func TestRequestThatEndedBefore(t *testing.T) {
	test(t, func(d *desk) {
		call := func(context.Context) idempotency.Outcome { d.calls++; return idempotency.Replied(nil) }
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := d.keeper.Do(cancelled, transfer("a"), call)
		d.want(err, 499, apierror.ClientClosedRequest, 0, "Nothing was sent")
		late, cancel := context.WithTimeout(context.Background(), 0)
		defer cancel()
		_, err = d.keeper.Do(late, transfer("a"), call)
		d.want(err, http.StatusServiceUnavailable, apierror.UpstreamUnreachable, 0, "Nothing was sent")
	})
}

func TestCallWithoutADeadlineGetsOne(t *testing.T) {
	test(t, func(d *desk) {
		_, _ = d.keeper.Do(context.Background(), transfer("a"), func(ctx context.Context) idempotency.Outcome {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != time.Minute {
				t.Errorf("deadline %s, %t", deadline, ok)
			}
			return idempotency.Replied(nil)
		})
	})
}

func TestDerivedReference(t *testing.T) {
	twice := status.Error(codes.AlreadyExists, "external_reference is taken")
	own := orderOf("accounts/1")
	own.LimitOrder.ExternalReference = "mine"
	t.Run("is set before the call", func(t *testing.T) {
		test(t, func(d *desk) {
			message := orderOf("accounts/1")
			request := order("a")
			request.Message = message
			_, err := d.keeper.Do(context.Background(), request, func(context.Context) idempotency.Outcome {
				if message.GetLimitOrder().GetExternalReference() == "" {
					t.Error("the order has no reference")
				}
				return idempotency.Replied(nil)
			})
			if err != nil {
				t.Error(err)
			}
			// The fingerprint is that of the request without it.
			if answer, err := d.do(order("a"), idempotency.Replied(nil)); err != nil || !answer.Replayed {
				t.Errorf("%+v, %v", answer, err)
			}
		})
	})
	t.Run("that exists means that the order was placed", func(t *testing.T) {
		test(t, func(d *desk) {
			_, err := d.do(order("a"), idempotency.RefusedByMesh(twice))
			d.want(err, http.StatusConflict, apierror.OutcomeUnknown, 1, "idem-")
			time.Sleep(timeout + idempotency.Margin + 1)
			_, err = d.do(order("a"), idempotency.Replied(nil))
			d.want(err, http.StatusConflict, apierror.OutcomeUnknown, 1)
		})
	})
	t.Run("of the client that exists is a refusal", func(t *testing.T) {
		test(t, func(d *desk) {
			request := order("a")
			request.Message = own
			for i := range 2 {
				if answer, err := d.do(request, idempotency.RefusedByMesh(twice)); status.Code(err) != codes.AlreadyExists || answer.Replayed != (i == 1) {
					t.Errorf("%+v, %v", answer, err)
				}
			}
		})
	})
}

// brokenStore fails as its fields say, before the effect.
type brokenStore struct {
	*memstore.Store
	claim, finish, release error
	// attempts is the number of calls of Finish, of which some fail as well.
	attempts, failing int
}

func (s *brokenStore) Claim(ctx context.Context, r idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	if s.claim != nil {
		return idempotency.Claim{}, s.claim
	}
	return s.Store.Claim(ctx, r, timeout)
}

func (s *brokenStore) Finish(ctx context.Context, id idempotency.ID, token idempotency.Token, state idempotency.State, sealed []byte) error {
	if s.attempts++; s.finish != nil {
		return s.finish
	}
	if ctx.Err() != nil {
		return idempotency.ErrUnavailable
	}
	if s.attempts <= s.failing {
		return idempotency.ErrUnavailable
	}
	return s.Store.Finish(ctx, id, token, state, sealed)
}

func (s *brokenStore) Release(ctx context.Context, id idempotency.ID, token idempotency.Token) error {
	if s.release != nil {
		return s.release
	}
	return s.Store.Release(ctx, id, token)
}

func TestStoreFailsBeforeTheCall(t *testing.T) {
	for _, test := range []struct {
		name       string
		err        error
		httpStatus int
		reason     apierror.Reason
		retryAfter time.Duration
	}{
		{"unavailable", idempotency.ErrUnavailable, 503, apierror.IdempotencyUnavailable, 0},
		{"any other error", errors.New("disk 10.0.0.1 is gone"), 503, apierror.IdempotencyUnavailable, 0},
		{"too many keys of the caller", idempotency.ErrCallerLimit, 429, apierror.RateLimited, time.Minute},
		{"too many keys", idempotency.ErrFull, 503, apierror.IdempotencyUnavailable, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, &brokenStore{Store: memstore.New(memstore.DefaultLimits()), claim: test.err})
				_, err := d.do(transfer("a"), idempotency.Replied(nil))
				d.want(err, test.httpStatus, test.reason, 0, "Nothing was sent")
				if !errors.Is(err, test.err) || strings.Contains(err.Error(), "10.0.0.1") {
					t.Errorf("the cause is for the log alone: %v", err)
				}
				var delay time.Duration
				for _, detail := range apierror.Status(err).Details() {
					if retry, ok := detail.(*errdetails.RetryInfo); ok {
						delay = retry.GetRetryDelay().AsDuration()
					}
				}
				if delay != test.retryAfter {
					t.Errorf("RetryInfo %s, want %s", delay, test.retryAfter)
				}
			})
		})
	}
}

// claimedAnyway makes claims that fail after their effect.
type claimedAnyway struct{ *memstore.Store }

func (s claimedAnyway) Claim(ctx context.Context, r idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	_, _ = s.Store.Claim(ctx, r, timeout)
	return idempotency.Claim{}, idempotency.ErrUnavailable
}

func TestClaimThatFailedIsUndone(t *testing.T) {
	test(t, func(d *desk) {
		_, err := newDesk(t, claimedAnyway{d.store.(*memstore.Store)}).do(transfer("a"), idempotency.Replied(nil))
		d.want(err, http.StatusServiceUnavailable, apierror.IdempotencyUnavailable, 0)
		if _, err := d.do(transfer("a"), idempotency.Replied(nil)); err != nil {
			t.Errorf("nothing was sent, and the key cannot be used again: %v", err)
		}
	})
}

func TestStoreFailsAfterTheCall(t *testing.T) {
	unavailable := &brokenStore{finish: idempotency.ErrUnavailable, release: idempotency.ErrUnavailable}
	lost := &brokenStore{finish: idempotency.ErrNotClaimed}
	for _, test := range []struct {
		name    string
		store   *brokenStore
		outcome idempotency.Outcome
		code    codes.Code
	}{
		{"a reply", unavailable, idempotency.Replied([]byte("reply")), codes.OK},
		{"a refusal", unavailable, idempotency.RefusedByMesh(status.Error(codes.NotFound, "no")), codes.NotFound},
		{"a release", unavailable, idempotency.NotSent(status.Error(codes.Unavailable, "not sent")), codes.Unavailable},
		{"a claim that is gone", lost, idempotency.Replied([]byte("reply")), codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.store.Store = memstore.New(memstore.DefaultLimits())
				d := newDesk(t, test.store)
				started := time.Now()
				answer, err := d.do(transfer("a"), test.outcome)
				if status.Code(err) != test.code || test.code == codes.OK && string(answer.Reply) != "reply" {
					t.Errorf("the client does not get its answer: %+v, %v", answer, err)
				}
				if waited := time.Since(started); waited > 5*time.Second {
					t.Errorf("the client waits for %s", waited)
				}
				if !strings.Contains(d.log.String(), "was not recorded") || strings.Contains(d.log.String(), apiKey) {
					t.Errorf("log: %s", d.log)
				}
				time.Sleep(timeout + idempotency.Margin + 1)
				_, err = d.do(transfer("a"), idempotency.Replied(nil))
				d.want(err, http.StatusConflict, apierror.OutcomeUnknown, 1)
			})
		})
	}
}

func TestOutcomeIsWrittenWhenTheStoreComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &brokenStore{Store: memstore.New(memstore.DefaultLimits()), failing: 4}
		d := newDesk(t, store)
		if _, err := d.do(transfer("a"), idempotency.Replied(nil)); err != nil {
			t.Error(err)
		}
		if answer, err := d.do(transfer("a"), idempotency.Replied(nil)); err != nil || !answer.Replayed || store.attempts != 5 {
			t.Errorf("%+v, %v after %d attempts", answer, err, store.attempts)
		}
	})
}

// slowStore pauses the gateway after a claim.
type slowStore struct {
	*memstore.Store
	pause time.Duration
}

func (s *slowStore) Claim(ctx context.Context, r idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	claim, err := s.Store.Claim(ctx, r, timeout)
	time.Sleep(s.pause)
	return claim, err
}

// TestGatewayIsPausedBeforeTheCall pauses it until others may have looked what Mesh did.
func TestGatewayIsPausedBeforeTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{memstore.New(memstore.DefaultLimits()), timeout + idempotency.Margin + time.Hour}
		d := newDesk(t, store)
		_, err := d.do(transfer("a"), idempotency.Replied(nil))
		d.want(err, http.StatusServiceUnavailable, apierror.UpstreamUnreachable, 0, "Nothing was sent")
		store.pause = timeout - 1
		if _, err := d.do(transfer("a"), idempotency.Replied(nil)); err != nil {
			t.Errorf("the key is not free, or the call is not made in time: %v", err)
		}
		d.wantCalls(1)
	})
}

// TestOutcomeIsWrittenAfterTheDeadline is about an answer that arrives in the last moment, and about
// a gateway that was paused.
func TestOutcomeIsWrittenAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, &brokenStore{Store: memstore.New(memstore.DefaultLimits())})
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if _, err := d.keeper.Do(ctx, transfer("a"), func(context.Context) idempotency.Outcome {
			time.Sleep(timeout + idempotency.Margin + time.Hour)
			return idempotency.Replied(nil)
		}); err != nil {
			t.Error(err)
		}
		if answer, err := d.do(transfer("a"), idempotency.Replied(nil)); err != nil || !answer.Replayed {
			t.Errorf("%+v, %v", answer, err)
		}
	})
}

// spyStore changes the records that are found.
type spyStore struct {
	*memstore.Store
	change func(*idempotency.Record)
}

func (s *spyStore) Claim(ctx context.Context, r idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	claim, err := s.Store.Claim(ctx, r, timeout)
	if claim.Existing != nil && s.change != nil {
		s.change(claim.Existing)
	}
	return claim, err
}

func TestRecordThatWasChanged(t *testing.T) {
	var other idempotency.Record
	for _, test := range []struct {
		name       string
		change     func(*idempotency.Record)
		httpStatus int
		reason     apierror.Reason
	}{
		{"a refusal to a reply", func(r *idempotency.Record) { r.State = idempotency.Done }, 409, apierror.OutcomeUnknown},
		{"the answer", func(r *idempotency.Record) { r.Sealed = append([]byte("x"), r.Sealed...) }, 409, apierror.OutcomeUnknown},
		{"the answer of another key", func(r *idempotency.Record) { r.Sealed = other.Sealed }, 409, apierror.OutcomeUnknown},
		{"an unknown state", func(r *idempotency.Record) { r.State = "other" }, 409, apierror.OutcomeUnknown},
		{"a newer version", func(r *idempotency.Record) { r.Version++ }, 503, apierror.IdempotencyUnavailable},
		{"a newer fingerprint", func(r *idempotency.Record) { r.Fingerprint[0]++ }, 503, apierror.IdempotencyUnavailable},
		{"another fingerprint", func(r *idempotency.Record) { r.Fingerprint[1]++ }, 422, apierror.IdempotencyKeyReused},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &spyStore{Store: memstore.New(memstore.DefaultLimits())}
				d := newDesk(t, store)
				_, _ = d.do(transfer("b"), idempotency.Replied([]byte("another reply")))
				if err := store.List(context.Background(), idempotency.Filter{}, func(r idempotency.Record, _ time.Time) error { other = r; return nil }); err != nil {
					t.Fatal(err)
				}
				_, _ = d.do(transfer("a"), idempotency.RefusedByMesh(status.Error(codes.NotFound, "no")))
				store.change = test.change
				_, err := d.do(transfer("a"), idempotency.Replied(nil))
				d.want(err, test.httpStatus, test.reason, 2)
			})
		})
	}
}

func TestStoreLearnsNoSecret(t *testing.T) {
	test(t, func(d *desk) {
		_, _ = d.do(transfer("a"), idempotency.Replied([]byte("the new API key")))
		_, _ = d.do(transfer("b"), idempotency.RefusedByMesh(status.Error(codes.NotFound, "the account")))
		if err := d.store.List(context.Background(), idempotency.Filter{}, func(r idempotency.Record, _ time.Time) error {
			for _, secret := range []string{apiKey, "API key", "the account"} {
				if bytes.Contains(r.Sealed, []byte(secret)) || bytes.Contains(r.Fingerprint, []byte(secret)) || bytes.Contains(r.Caller[:], []byte(secret)) {
					t.Errorf("the record has %q", secret)
				}
			}
			if len(r.Sealed) == 0 {
				t.Error("the record has no answer")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRequestMustHaveAKeyAndAnAPIKey(t *testing.T) {
	test(t, func(d *desk) {
		without := transfer("")
		_, err := d.do(without, idempotency.Replied(nil))
		d.want(err, 500, apierror.Internal, 0)
		without = transfer("a")
		without.APIKey = ""
		_, err = d.do(without, idempotency.Replied(nil))
		d.want(err, 500, apierror.Internal, 0)
	})
}
