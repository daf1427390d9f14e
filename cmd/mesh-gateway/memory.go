package main

import "runtime/debug"

// programMemory is what the heap may take besides the calls in flight, in bytes: 15 MiB at rest, and
// the rest for what the budget does not count, such as a reply that is copied out of the buffers of
// the upstream connection, and for the collector.
const programMemory = 64 << 20

// limitMemory sets the soft limit of the runtime to what the calls in flight and the program may
// take. Without it, the heap grows to twice of what is held before it is collected. A lower limit,
// set by GOMEMLIMIT, stays. Collecting often costs little, since what calls hold are bytes, which
// the collector does not scan.
func limitMemory(inFlight int64) {
	debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), inFlight+programMemory))
}
