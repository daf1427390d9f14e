package idempotency

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	spb "google.golang.org/genproto/googleapis/rpc/status"
)

const (
	// claimTime is how long a claim may take.
	claimTime = 5 * time.Second
	// undoTime is how long the attempt may take to undo a claim that failed.
	undoTime = 2 * time.Second
	// finishTime is how long it may take to write the outcome, with all attempts. The client waits
	// for it. It is less than Margin.
	finishTime = 5 * time.Second
	// finishDelay is the delay before the second attempt. It doubles with each.
	finishDelay = 100 * time.Millisecond
	// defaultTimeout is the timeout of a call that has none.
	defaultTimeout = time.Minute
	// maxAnswer is the maximum size of an answer that is kept, in bytes. The replies to writes of
	// the contract have a few hundred. A larger one is not replayed.
	maxAnswer = 1 << 20
	// purgePeriod is how often Run purges.
	purgePeriod = time.Minute
)

// Keeper makes calls at most once per Idempotency-Key. It is safe for concurrent use.
type Keeper struct {
	store Store
	log   *slog.Logger
}

// NewKeeper returns a Keeper of the records in a store. The log receives what fails without a
// client to tell it to. The caller closes the store.
func NewKeeper(store Store, log *slog.Logger) *Keeper { return &Keeper{store, log} }

// Request is a write with an Idempotency-Key.
type Request struct {
	// Key is the key that [KeyOf] returned. It is not empty.
	Key string
	// APIKey and Group are the credentials of the request. APIKey is not empty.
	APIKey, Group string
	// Method is the full gRPC name of the method.
	Method string
	// Message is the request, which is valid. [Keeper.Do] may set the reference in it
	// ([SetReference]), and only then calls.
	Message proto.Message
}

// Answer is the answer to a request that was carried out, or the way in which an error was found.
type Answer struct {
	// Reply is the reply of Mesh in wire form. It is set if there is no error.
	Reply []byte
	// Replayed reports whether the reply or the error is the answer to an earlier request.
	Replayed bool
}

// Do makes a call, unless a request with the same key was made before. Then it returns the answer
// to that. It makes the call at most once, and never repeats it.
//
// The context of the call has the deadline of ctx, or one minute if there is none. It is not
// cancelled with ctx: a client that is gone comes back with the same key, and the answer should be
// there.
//
// The error is that of the call's outcome, or a status that Mesh sent to an earlier request, or an
// [apierror.Error] of this package. The call was not made in the last case, except for the reason
// OUTCOME_UNKNOWN: there, it may have been made for this or for an earlier request.
func (k *Keeper) Do(ctx context.Context, request Request, call func(ctx context.Context) Outcome) (Answer, error) {
	if request.Key == "" || request.APIKey == "" {
		return Answer{}, errors.New("idempotency: a request without a key or an API key")
	}
	if ctx.Err() != nil {
		return Answer{}, goneError(ctx.Err())
	}
	ctx, cancel := detach(ctx)
	defer cancel()

	// The fingerprint is that of the request as the client made it, without the reference.
	record := request.record()
	switch claim, err := k.claim(ctx, record); {
	case err != nil:
		return Answer{}, storeError(err)
	case claim.Existing != nil:
		return request.answer(claim.Existing, claim.Now)
	}

	if late(ctx) {
		k.release(ctx, record)
		return Answer{}, goneError(context.DeadlineExceeded)
	}
	reference := SetReference(request.Message, record.ID)
	outcome := call(ctx)
	switch outcome.effect(reference != "") {
	case finishDone:
		k.finish(ctx, &request, record, Done, outcome.reply)
	case finishRefused:
		k.finish(ctx, &request, record, Refused, statusBytes(outcome.err))
	case release:
		k.release(ctx, record)
	case stay:
		if outcome.kind == refused && reference != "" && isAlreadyExists(outcome.err) {
			return Answer{}, request.unknownError().WithCause(outcome.err)
		}
	}
	return Answer{Reply: outcome.reply}, outcome.error()
}

// detach returns a context that ends at the deadline of ctx and not before.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

// late reports whether the deadline has passed, as after a pause of the gateway. Others may have read
// the key as unknown then, and looked what Mesh did, so the call must not come after that. The clock
// of timers stops while a machine is suspended, so the time of day is compared as well.
func late(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	return ctx.Err() != nil || time.Now().Round(0).After(deadline.Round(0))
}

func (r *Request) record() Record {
	caller := CallerOf(r.APIKey)
	return Record{
		ID:          IDOf(caller, r.Group, r.Method, r.Key),
		Version:     RecordVersion,
		Caller:      caller,
		Group:       r.Group,
		Method:      r.Method,
		Key:         r.Key,
		Fingerprint: FingerprintOf(r.APIKey, r.Message),
		Token:       newToken(),
		State:       Sent,
	}
}

// claim claims the record. If it fails, nothing will be sent, but the record may be there. It tries
// to delete that, so that the client can repeat its request. If this fails too, the key reads as
// unknown.
func (k *Keeper) claim(ctx context.Context, record Record) (Claim, error) {
	deadline, _ := ctx.Deadline()
	claiming, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	claim, err := k.store.Claim(claiming, record, time.Until(deadline))
	if err == nil || errors.Is(err, ErrCallerLimit) || errors.Is(err, ErrFull) {
		return claim, err
	}
	undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if undoErr := k.store.Release(undoing, record.ID, record.Token); undoErr != nil {
		err = errors.Join(err, undoErr)
	}
	return Claim{}, err
}

// finish writes the outcome. If it cannot, the client still gets its answer, and the record reads
// as unknown.
func (k *Keeper) finish(ctx context.Context, request *Request, record Record, state State, answer []byte) {
	var sealed []byte
	if len(answer) <= maxAnswer {
		sealed = seal(request.APIKey, &record, state, answer)
	}
	k.write(ctx, record, func(ctx context.Context) error {
		return k.store.Finish(ctx, record.ID, record.Token, state, sealed)
	})
}

// release deletes the record. If it cannot, the record reads as unknown.
func (k *Keeper) release(ctx context.Context, record Record) {
	k.write(ctx, record, func(ctx context.Context) error {
		return k.store.Release(ctx, record.ID, record.Token)
	})
}

// write repeats a write while the store is unavailable. The writes of a claim have the same effect
// if they are repeated.
func (k *Keeper) write(ctx context.Context, record Record, write func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	for delay := finishDelay; ; delay *= 2 {
		err := write(ctx)
		if err == nil {
			return
		}
		if errors.Is(err, ErrUnavailable) && sleep(ctx, delay) {
			continue
		}
		k.log.LogAttrs(ctx, slog.LevelError, "The outcome of a write was not recorded. Its Idempotency-Key reads as unknown.",
			slog.String("record", record.ID.String()), slog.String("rpc", record.Method), slog.String("cause", err.Error()))
		return
	}
}

// sleep waits for the delay. It returns false at once when ctx is done.
func sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answer is the answer to a request for which there is a record. It never makes the call.
func (r *Request) answer(record *Record, now time.Time) (Answer, error) {
	switch {
	case record.Version != RecordVersion || !record.Fingerprint.known():
		return Answer{}, storeError(errOtherVersion)
	case !record.Fingerprint.equal(FingerprintOf(r.APIKey, r.Message)):
		return Answer{}, reusedError()
	case record.Unknown(now):
		return Answer{}, r.unknownError()
	case record.State == Sent:
		return Answer{}, inFlightError()
	case len(record.Sealed) == 0, !now.Before(record.Finished.Add(ReplayTime)):
		return Answer{}, r.finishedError(record.State)
	}
	answer, err := open(r.APIKey, record)
	if err != nil {
		// The record was changed, so nothing in it can be trusted.
		return Answer{}, r.unknownError().WithCause(err)
	}
	if record.State == Done {
		return Answer{Reply: answer, Replayed: true}, nil
	}
	var st spb.Status
	if err := proto.Unmarshal(answer, &st); err != nil || st.GetCode() == 0 {
		return Answer{}, r.unknownError().WithCause(errors.Join(errors.New("the record has no status"), err))
	}
	return Answer{Replayed: true}, status.ErrorProto(&st)
}

// Run purges the store every minute until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	ticker := time.NewTicker(purgePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := k.purge(ctx); err != nil && ctx.Err() == nil {
				k.log.LogAttrs(ctx, slog.LevelWarn, "Old idempotency records were not removed.", slog.String("cause", err.Error()))
			}
		}
	}
}

func (k *Keeper) purge(ctx context.Context) error {
	for {
		more, err := k.store.Purge(ctx)
		if err != nil || !more {
			return err
		}
	}
}
