package tracing

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// Sampler decides which requests are traced. The zero Sampler traces none.
type Sampler struct {
	// bound is above the lower 63 bits of the ids of the traces that are sampled.
	bound uint64
	// parentBased leaves the decision to the client if that sent a trace.
	parentBased bool
}

// ParseSampler returns the sampler that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG describe
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). By default it
// traces every request, except for those that their clients do not trace. The error names the
// variable.
func ParseSampler(getenv func(string) string) (Sampler, error) {
	const all = 1 << 63
	name := cmp.Or(strings.ToLower(strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER"))), "parentbased_always_on")
	kind, parentBased := strings.CutPrefix(name, "parentbased_")
	switch kind {
	case "always_on":
		return Sampler{all, parentBased}, nil
	case "always_off":
		return Sampler{0, parentBased}, nil
	case "traceidratio":
		text := cmp.Or(strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER_ARG")), "1")
		part, err := strconv.ParseFloat(text, 64)
		if err != nil || !(part >= 0 && part <= 1) {
			return Sampler{}, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is not a part of the traces; use a number from 0 to 1, such as 0.1", text)
		}
		return Sampler{uint64(math.Ceil(part * all)), parentBased}, nil
	default:
		return Sampler{}, fmt.Errorf("OTEL_TRACES_SAMPLER: %q is not supported; use always_on, always_off or traceidratio, or one of them with parentbased_ before it", name)
	}
}

// samples reports whether a request of the trace is traced. The parent is not valid if the client
// sent none. Gateways and clients with the same part sample the same traces, as the SDKs of
// OpenTelemetry decide in the same way.
func (s Sampler) samples(parent trace.SpanContext, id trace.TraceID) bool {
	if s.parentBased && parent.IsValid() {
		return parent.IsSampled()
	}
	return binary.BigEndian.Uint64(id[8:])>>1 < s.bound
}
