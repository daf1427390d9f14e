// Bench measures mesh-gateway against its peers, on one machine and in front of one mock
// upstream, and prints what each costs in relation to grpc-gateway without any middleware:
//
//	go -C bench run .
//
// The peers:
//
//	stock         grpc-gateway's own mux and the generated handlers; no middleware
//	mesh-gateway  the program as it is released, with all of its middleware
//	vanguard      connectrpc.com/vanguard over a reverse proxy; no middleware
//	floor         net/http and one gRPC call, answering JSON that was written beforehand
//
// On request (-peers) also stock+chain and vanguard+chain, which have mesh-gateway's
// middleware in front of them.
//
// The row "create with a key" has a table of its own: what a write with an Idempotency-Key
// costs mesh-gateway with each store, in relation to one without. PostgreSQL takes part if
// Debian's package of it is installed.
//
// The row "GET with telemetry" has a table of its own too: what the log, traces and the audit log cost
// mesh-gateway, in relation to none of them.
//
// Each is a process of its own, started anew for each row. It first checks that all give
// the same answers. It then measures them in turn, for several rounds, and compares within
// a round, so that what else the machine does falls on all of them. The first round warms
// up and is left out. It needs Linux, and takes about six minutes on two cores.
//
// From one run to the next, the medians of six rounds differ by 0.04. Where figures differ by
// less, ask for more rounds (-rounds).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// See endWithParent.
	runtime.LockOSThread()
	if len(os.Args) > 1 && os.Args[1] == "role" {
		role, upstream := "", ""
		if len(os.Args) == 4 {
			role, upstream = os.Args[2], os.Args[3]
		}
		exit(runRole(role, upstream))
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = run(ctx, o, os.Stdout)
	if ctx.Err() != nil {
		err = errors.New("interrupted; all processes that were started have ended")
	}
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type options struct {
	rounds   int
	requests int
	limit    time.Duration
	rows     []*row
	peers    []peer
	svg      string
	json     string
}

func parseOptions(args []string) (*options, error) {
	var o options
	var only, peers string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 7, "how many rounds to measure; the first warms up and is left out")
	flags.IntVar(&o.requests, "requests", 5000, "how many requests a measurement of a small answer sends; those of large ones send fewer")
	flags.DurationVar(&o.limit, "limit", 5*time.Minute, "begin no round that would not end within this time; at least two are measured")
	flags.StringVar(&only, "only", "", "the rows to measure, separated by semicolons (all): "+names(newRows(), ";"))
	flags.StringVar(&peers, "peers", "", "the peers to measure, separated by commas (those without +chain); stock is always measured: "+names(newPeers(), ","))
	flags.StringVar(&o.svg, "svg", "chart.svg", "file to write the chart to; empty writes none")
	flags.StringVar(&o.json, "json", "", "file to write every sample to; empty writes none")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%q is not understood; see -help", flags.Arg(0))
	}
	if o.rounds < 2 {
		return nil, fmt.Errorf("-rounds: must be at least 2, since the first is left out, not %d", o.rounds)
	}
	if o.requests < 1 {
		return nil, fmt.Errorf("-requests: must be at least 1, not %d", o.requests)
	}
	var err error
	if o.rows, err = choose("-only", newRows(), only, ";"); err != nil {
		return nil, err
	}
	if peers != "" {
		peers += "," + stockRole
	} else {
		peers = names(slices.DeleteFunc(newPeers(), func(p peer) bool { return p.extra }), ",")
	}
	if o.peers, err = choose("-peers", newPeers(), peers, ","); err != nil {
		return nil, err
	}
	return &o, nil
}

type named interface{ String() string }

func names[T named](all []T, separator string) string {
	var list []string
	for _, one := range all {
		list = append(list, one.String())
	}
	return strings.Join(list, separator)
}

// choose returns those of all that the list names, in their own order; an empty list
// names all.
func choose[T named](flag string, all []T, list, separator string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(list, separator) {
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(all, func(one T) bool { return one.String() == name }) {
			return nil, fmt.Errorf("%s: there is no %q; there are %s", flag, name, names(all, separator))
		}
		wanted[name] = true
	}
	var chosen []T
	for _, one := range all {
		if wanted[one.String()] {
			chosen = append(chosen, one)
		}
	}
	return chosen, nil
}

// run measures and reports. It ends all that it started before it returns.
func run(ctx context.Context, o *options, out io.Writer) (err error) {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("measuring needs Linux, for its /proc; this is %s", runtime.GOOS)
	}
	dir, err := os.MkdirTemp("", "mesh-gateway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	machine, root, err := describe(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(out, machine.markdown())

	apart := func(r *row) bool { return r.name == keyedRow || r.name == telemetryRow }
	hasGateway := func(p peer) bool { return p.store != "" }
	f, err := newField(ctx, dir, root, slices.ContainsFunc(o.rows, apart) || slices.ContainsFunc(o.peers, hasGateway))
	if err != nil {
		return err
	}
	defer f.stop()
	r := &report{Machine: machine, Requests: o.requests, peers: o.peers}
	for _, one := range o.rows {
		switch one.name {
		case keyedRow:
			r.Keyed, err = measureStores(ctx, f, o, one)
		case telemetryRow:
			r.Telemetry, err = measureTelemetry(ctx, f, o, one)
		default:
			r.rows = append(r.rows, one)
		}
		if err != nil {
			return err
		}
	}
	if len(r.rows) > 0 {
		if err := r.measureAll(ctx, f, o); err != nil {
			return err
		}
		fmt.Fprint(out, r.markdown())
	}
	problems := len(r.Problems)
	for _, other := range []*report{r.Keyed, r.Telemetry} {
		if other != nil {
			fmt.Fprint(out, other.markdown())
			problems += len(other.Problems)
		}
	}
	if o.svg != "" && len(r.rows) > 0 {
		if err := writeFile(o.svg, r.chart); err != nil {
			return err
		}
	}
	if o.json != "" {
		if err := writeFile(o.json, func(w io.Writer) error {
			encoder := json.NewEncoder(w)
			encoder.SetIndent("", "  ")
			return encoder.Encode(r)
		}); err != nil {
			return err
		}
	}
	if problems > 0 {
		return fmt.Errorf("%d things were not as expected; see Problems above", problems)
	}
	return nil
}

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path) //nolint:gosec // the user names it
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
