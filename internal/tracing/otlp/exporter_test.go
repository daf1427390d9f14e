package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// uploads is a client whose collector takes what it is sent, or answers with an error.
type uploads struct {
	took time.Duration
	err  error

	mu      sync.Mutex
	batches [][]string // the names of their spans
}

func (*uploads) Start(context.Context) error { return nil }
func (*uploads) Stop(context.Context) error  { return nil }

func (u *uploads) UploadTraces(ctx context.Context, sent []*tracepb.ResourceSpans) error {
	wire, err := proto.Marshal(sent[0])
	if err != nil {
		return err
	}
	received := new(tracepb.ResourceSpans)
	if err := proto.Unmarshal(wire, received); err != nil {
		return err
	}
	var names []string
	for _, span := range received.GetScopeSpans()[0].GetSpans() {
		names = append(names, span.GetName())
	}
	select {
	case <-time.After(u.took):
	case <-ctx.Done():
		return ctx.Err()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.batches = append(u.batches, names)
	return u.err
}

func exporterTo(t *testing.T, client *uploads, environment map[string]string) *Exporter {
	t.Helper()
	limits, err := parseLimits(func(name string) string { return environment[name] })
	if err != nil {
		t.Fatal(err)
	}
	return newExporter(client, limits, new(resourcepb.Resource), "v1", slog.New(slog.DiscardHandler))
}

// record records spans with the names first, first+1, …
func record(t *testing.T, e *Exporter, first, n int) {
	t.Helper()
	for i := range n {
		span, err := proto.Marshal(&tracepb.Span{Name: fmt.Sprint(first + i)})
		if err != nil {
			t.Fatal(err)
		}
		e.record(span)
	}
}

func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := new(uploads)
		e := exporterTo(t, client, map[string]string{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2", "OTEL_BSP_SCHEDULE_DELAY": "1000"})
		wantBatches := func(when string, want ...[]string) {
			t.Helper()
			synctest.Wait()
			client.mu.Lock()
			defer client.mu.Unlock()
			if !slices.EqualFunc(client.batches, want, slices.Equal) {
				t.Errorf("%s, the batches are %v, want %v", when, client.batches, want)
			}
		}
		record(t, e, 1, 1)
		wantBatches("before a batch is full")
		record(t, e, 2, 2)
		wantBatches("once a batch is full", []string{"1", "2"})
		time.Sleep(time.Second)
		wantBatches("after the delay", []string{"1", "2"}, []string{"3"})
		record(t, e, 4, 1)
		e.Close()
		wantBatches("at the end", []string{"1", "2"}, []string{"3"}, []string{"4"})
		if e.Exported() != 4 || e.Failed() != 0 {
			t.Errorf("%d exported, %d failed", e.Exported(), e.Failed())
		}
	})
}

// TestSlowCollector has more spans than fit into the queue while the collector takes the first.
func TestSlowCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := exporterTo(t, &uploads{took: time.Second}, map[string]string{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2", "OTEL_BSP_MAX_QUEUE_SIZE": "4"})
		record(t, e, 1, 2)
		synctest.Wait()
		record(t, e, 3, 5)
		if failed := e.Failed(); failed != 3 {
			t.Errorf("%d of 7 spans were dropped, want 3", failed)
		}
		time.Sleep(3 * time.Second)
		record(t, e, 8, 1)
		e.Close()
		if e.Exported() != 5 || e.Failed() != 3 {
			t.Errorf("%d exported, %d failed, want 5 and 3", e.Exported(), e.Failed())
		}
	})
}

func TestCollectorThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := exporterTo(t, &uploads{took: time.Hour}, map[string]string{"OTEL_BSP_EXPORT_TIMEOUT": "500", "OTEL_BSP_SCHEDULE_DELAY": "100"})
		record(t, e, 1, 1)
		time.Sleep(time.Second)
		if e.Failed() != 1 {
			t.Errorf("%d failed after the timeout, want 1", e.Failed())
		}
		e.limits.timeout = time.Hour
		record(t, e, 2, 1)
		begin := time.Now()
		e.Close()
		if took := time.Since(begin); took != flushTimeout || e.Failed() != 2 {
			t.Errorf("the end took %s, and %d failed, want %s and 2", took, e.Failed(), flushTimeout)
		}
	})
}

func TestCollectorThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := exporterTo(t, &uploads{err: errors.New("refused")}, nil)
		record(t, e, 1, 600)
		e.Close()
		if e.Exported() != 0 || e.Failed() != 600 {
			t.Errorf("%d exported, %d failed, want 0 and 600", e.Exported(), e.Failed())
		}
	})
}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name, value string
		want        limits // zero for an error
	}{
		{"", "", limits{5 * time.Second, 30 * time.Second, 2048, 512}},
		{"OTEL_BSP_SCHEDULE_DELAY", "10", limits{10 * time.Millisecond, 30 * time.Second, 2048, 512}},
		{"OTEL_BSP_EXPORT_TIMEOUT", "1000", limits{5 * time.Second, time.Second, 2048, 512}},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "100", limits{5 * time.Second, 30 * time.Second, 100, 100}},
		{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8", limits{5 * time.Second, 30 * time.Second, 2048, 8}},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "0", limits{}},
		{"OTEL_BSP_SCHEDULE_DELAY", "5s", limits{}},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			got, err := parseLimits(func(name string) string { return map[string]string{test.name: test.value}[name] })
			if (err != nil) != (test.want == limits{}) || err == nil && got != test.want {
				t.Errorf("%v, error %v, want %v", got, err, test.want)
			}
		})
	}
}
