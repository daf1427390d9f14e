package sandbox

import (
	"fmt"
	"testing"
)

// TestAReaderThatIsFarBehindMissesTheOldestOnly fills a queue that nobody reads.
func TestAReaderThatIsFarBehindMissesTheOldestOnly(t *testing.T) {
	for _, test := range []struct {
		name          string
		changes, kept int
	}{
		{"below", watchBuffer - 1, watchBuffer - 1},
		{"at", watchBuffer, watchBuffer},
		{"over", watchBuffer + 3, watchBuffer},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := make(watchers)
			one, err := all.add("watched")
			if err != nil {
				t.Fatal(err)
			}
			for i := range test.changes {
				all.notify(&transaction{Name: "watched", Owner: fmt.Sprint(i)})
			}
			all.end(nil)
			var got []string
			for change := range one.changes {
				got = append(got, change.GetOwner())
			}
			if len(got) != test.kept || got[len(got)-1] != fmt.Sprint(test.changes-1) {
				t.Errorf("%d changes, the last is %s; want %d, and %d last", len(got), got[len(got)-1], test.kept, test.changes-1)
			}
		})
	}
}
