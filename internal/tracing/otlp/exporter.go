package otlp

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meshtrade/mesh-gateway/internal/tracing"
)

const (
	scopeName = "github.com/meshtrade/mesh-gateway"
	// flushTimeout is how long the end of the program waits for the collector.
	flushTimeout = 3 * time.Second
	// reportInterval is the shortest time between two log records of failed exports.
	reportInterval = time.Minute
	// spansField is the number of the spans in opentelemetry.proto.trace.v1.ScopeSpans.
	spansField = 2
)

// limits are those of the OTEL_BSP_* variables.
type limits struct {
	// delay is the longest time between two exports, and timeout that of an export.
	delay, timeout time.Duration
	// queue is how many spans may wait, and batch how many are sent at a time.
	queue, batch int
}

func parseLimits(getenv func(string) string) (l limits, err error) {
	parse := func(name string, otherwise int) int {
		text := getenv(name)
		n, problem := strconv.Atoi(cmp.Or(text, strconv.Itoa(otherwise)))
		if (problem != nil || n <= 0) && err == nil {
			err = fmt.Errorf("%s: %q is not a number above 0", name, text)
		}
		return n
	}
	l.delay = time.Duration(parse("OTEL_BSP_SCHEDULE_DELAY", 5000)) * time.Millisecond
	l.timeout = time.Duration(parse("OTEL_BSP_EXPORT_TIMEOUT", 30000)) * time.Millisecond
	l.queue = parse("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
	l.batch = min(parse("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), l.queue)
	return l, err
}

// Exporter sends spans to a collector, in batches and in the background. Those that do not fit into its
// queue are dropped, so that a slow collector does not make requests slow. It is safe for concurrent
// use. The nil Exporter is that of a gateway that does not trace.
type Exporter struct {
	client   otlptrace.Client
	tracer   *tracing.Tracer
	limits   limits
	resource *resourcepb.Resource
	scope    *commonpb.InstrumentationScope
	logger   *slog.Logger

	exported, failed atomic.Uint64
	// reported is when a failure was last logged, and since how many spans have failed after that. The
	// goroutine of run uses them.
	reported time.Time
	since    int

	mu sync.Mutex
	// full are batches that are complete, and current is the one that is not. waiting is the number of
	// spans in all of them, with those that are being sent.
	full    []batch
	current batch
	waiting int
	spare   [][]byte

	wake      chan struct{} // has a value if there is a full batch
	ending    chan struct{} // closed by Close
	ended     chan struct{} // closed after the last export
	ctx       context.Context
	interrupt context.CancelFunc
}

// batch is a part of a ScopeSpans in wire form: its spans.
type batch struct {
	wire  []byte
	spans int
}

func newExporter(client otlptrace.Client, l limits, described *resourcepb.Resource, version string, logger *slog.Logger) *Exporter {
	e := &Exporter{
		client: client, limits: l, resource: described, scope: &commonpb.InstrumentationScope{Name: scopeName, Version: version}, logger: logger,
		wake: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{}),
	}
	e.ctx, e.interrupt = context.WithCancel(context.Background())
	go e.run()
	return e
}

// Tracer returns the tracer of the gateway, or nil if it does not trace.
func (e *Exporter) Tracer() *tracing.Tracer {
	if e == nil {
		return nil
	}
	return e.tracer
}

// Exported returns how many spans the collector has received.
func (e *Exporter) Exported() uint64 {
	if e == nil {
		return 0
	}
	return e.exported.Load()
}

// Failed returns how many spans the collector could not be sent, with those that did not fit into the
// queue.
func (e *Exporter) Failed() uint64 {
	if e == nil {
		return 0
	}
	return e.failed.Load()
}

// record adds a span to the current batch.
func (e *Exporter) record(span []byte) {
	e.mu.Lock()
	if e.waiting >= e.limits.queue {
		e.mu.Unlock()
		e.failed.Add(1)
		return
	}
	e.waiting++
	e.current.wire = protowire.AppendBytes(protowire.AppendTag(e.current.wire, spansField, protowire.BytesType), span)
	e.current.spans++
	full := e.current.spans >= e.limits.batch
	if full {
		e.next()
	}
	e.mu.Unlock()
	if full {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// next begins another batch. e.mu must be held.
func (e *Exporter) next() {
	if e.current.spans == 0 {
		return
	}
	e.full = append(e.full, e.current)
	e.current = batch{}
	if n := len(e.spare); n > 0 {
		e.current.wire, e.spare = e.spare[n-1][:0], e.spare[:n-1]
	}
}

// run exports full batches at once, and the current one from time to time.
func (e *Exporter) run() {
	defer close(e.ended)
	ticker := time.NewTicker(e.limits.delay)
	defer ticker.Stop()
	for {
		select {
		case <-e.wake:
			e.export(false)
		case <-ticker.C:
			e.export(true)
		case <-e.ending:
			e.export(true)
			return
		}
	}
}

// export sends the full batches, and the current one too if all is true.
func (e *Exporter) export(all bool) {
	e.mu.Lock()
	if all {
		e.next()
	}
	batches := e.full
	e.full = nil
	e.mu.Unlock()
	for _, b := range batches {
		err := e.upload(b)
		e.mu.Lock()
		e.waiting -= b.spans
		e.spare = append(e.spare, b.wire)
		e.mu.Unlock()
		if err == nil {
			e.exported.Add(uint64(b.spans))
			continue
		}
		e.failed.Add(uint64(b.spans))
		e.report(b.spans, err)
	}
}

// upload sends a batch. The spans are in wire form already, so they are the unknown fields of a message
// without spans, which are written as they are.
func (e *Exporter) upload(b batch) error {
	ctx, cancel := context.WithTimeout(e.ctx, e.limits.timeout)
	defer cancel()
	spans := &tracepb.ScopeSpans{Scope: e.scope}
	spans.ProtoReflect().SetUnknown(b.wire)
	return e.client.UploadTraces(ctx, []*tracepb.ResourceSpans{{Resource: e.resource, ScopeSpans: []*tracepb.ScopeSpans{spans}}})
}

// report logs a failure, but rarely: a collector that is down fails every export.
func (e *Exporter) report(spans int, err error) {
	e.since += spans
	now := time.Now()
	if !e.reported.IsZero() && now.Sub(e.reported) < reportInterval {
		return
	}
	e.logger.Warn("traces cannot be sent to their collector; they are dropped, and this is logged at most once a minute",
		slog.Int("spans", e.since), slog.Any("error", err))
	e.reported, e.since = now, 0
}

// Close exports the spans that wait, for at most 3 seconds. A collector that cannot be reached is not
// an error of the gateway: it is logged. Spans must not end afterwards.
func (e *Exporter) Close() {
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	close(e.ending)
	select {
	case <-e.ended:
	case <-ctx.Done():
	}
	e.interrupt() // an export that goes on, which it then reports
	<-e.ended
	if err := e.client.Stop(ctx); err != nil && ctx.Err() == nil {
		e.logger.Warn("the connection to the collector of traces was not closed", slog.Any("error", err))
	}
}
