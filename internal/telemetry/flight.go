package telemetry

import (
	"fmt"
	"net/http"
	"runtime/trace"
	"time"
)

const (
	// flightAge is how far back the flight recorder reaches at least, if flightBytes suffice.
	flightAge = 10 * time.Second
	// flightBytes is about how much memory its records take.
	flightBytes = 8 << 20
)

// Flight is the flight recorder of the Go runtime ([trace.FlightRecorder]): an execution trace of the
// last seconds, which is read after something has happened. A program can run one.
type Flight struct{ recorder *trace.FlightRecorder }

// StartFlight starts the flight recorder. Stop must be called.
func StartFlight() (*Flight, error) {
	recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: flightAge, MaxBytes: flightBytes})
	if err := recorder.Start(); err != nil {
		return nil, fmt.Errorf("flight recorder: %w", err)
	}
	return &Flight{recorder}, nil
}

// Stop stops the flight recorder.
func (f *Flight) Stop() { f.recorder.Stop() }

// ServeHTTP responds with what the recorder holds, for "go tool trace". One request at a time is
// served.
func (f *Flight) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="flight.trace"`)
	if r.Method == http.MethodHead {
		return
	}
	written, err := f.recorder.WriteTo(w)
	if err != nil && written == 0 {
		w.Header().Del("Content-Disposition")
		http.Error(w, "The flight recorder cannot be read: "+err.Error(), http.StatusServiceUnavailable)
	}
}
