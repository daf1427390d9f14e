package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// watch watches a pet and returns the chips that it had, until it is not hungry. Each is passed to
// send first.
func (p pets) watch(ctx context.Context, name string, send func(chip string)) (chips []string, err error) {
	err = store.Watch(ctx, p.Store, p.Table,
		func(tx *store.Tx) (*pet, error) {
			found, ok := p.Get(tx, name)
			if !ok {
				return nil, errors.New("there is no " + name)
			}
			return found, nil
		},
		func(one *pet) bool { return !one.Hungry },
		func(one *pet) error {
			chips = append(chips, one.Chip)
			send(one.Chip)
			return nil
		})
	return chips, err
}

func TestAWatcherSeesEachChange(t *testing.T) {
	p, _ := open(t, store.Config{})
	must(t, p.create(&pet{Name: "rex", Chip: "0", Hungry: true}, &pet{Name: "tom", Hungry: true}))
	chips, err := p.watch(t.Context(), "rex", func(chip string) {
		if chip != "0" {
			return
		}
		must(t, p.update(func(tx *store.Tx) error {
			must(t, p.Update(tx, &pet{Name: "tom", Chip: "another pet"}))
			must(t, p.Update(tx, &pet{Name: "rex", Chip: "1", Hungry: true}))
			_ = tx.Try(func() error {
				must(t, p.Update(tx, &pet{Name: "rex", Chip: "taken back", Hungry: true}))
				return errors.New("failed")
			})
			return p.Update(tx, &pet{Name: "rex", Chip: "2", Hungry: true}) // in the same commit
		}))
		if err := p.update(func(tx *store.Tx) error {
			must(t, p.Update(tx, &pet{Name: "rex", Chip: "not committed", Hungry: true}))
			return errors.New("failed")
		}); err == nil {
			t.Error("it was committed")
		}
		must(t, p.update(func(tx *store.Tx) error { return p.Update(tx, &pet{Name: "rex", Chip: "3"}) }))
	})
	must(t, err)
	if want := []string{"0", "1", "2", "3"}; !slices.Equal(chips, want) {
		t.Errorf("it saw %q, want %q", chips, want)
	}
}

func TestTheEndOfAWatch(t *testing.T) {
	p, _ := open(t, store.Config{})
	must(t, p.create(&pet{Name: "rex", Hungry: true}, &pet{Name: "tom"}))
	ended := errors.New("it was reset")
	t.Run("of what is not there", func(t *testing.T) {
		if _, err := p.watch(t.Context(), "ace", func(string) {}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("of what will not change", func(t *testing.T) {
		chips, err := p.watch(t.Context(), "tom", func(string) {})
		if err != nil || len(chips) != 1 {
			t.Errorf("%q, %v", chips, err)
		}
	})
	t.Run("with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := p.watch(ctx, "rex", func(string) { cancel() }); err == nil {
			t.Error("no error")
		}
	})
	t.Run("with a reset", func(t *testing.T) {
		_, err := p.watch(t.Context(), "rex", func(string) {
			must(t, p.Reset(func(*store.Tx) error { return nil }, ended))
		})
		if !errors.Is(err, ended) {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestAReaderThatIsFarBehindMissesTheOldestOnly makes more changes than a queue holds while the
// reader is at the first message.
func TestAReaderThatIsFarBehindMissesTheOldestOnly(t *testing.T) {
	const buffer = 256
	for _, changes := range []int{buffer - 1, buffer, buffer + 3} {
		t.Run(fmt.Sprint(changes), func(t *testing.T) {
			p, _ := open(t, store.Config{})
			must(t, p.create(&pet{Name: "rex", Chip: "0", Hungry: true}))
			chips, err := p.watch(t.Context(), "rex", func(chip string) {
				if chip != "0" {
					return
				}
				for i := range changes {
					must(t, p.update(func(tx *store.Tx) error {
						return p.Update(tx, &pet{Name: "rex", Chip: fmt.Sprint(i + 1), Hungry: i < changes-1})
					}))
				}
			})
			must(t, err)
			if want := 1 + min(changes, buffer); len(chips) != want || chips[len(chips)-1] != fmt.Sprint(changes) {
				t.Errorf("%d messages, the last is %s; want %d, and %d last", len(chips), chips[len(chips)-1], want, changes)
			}
		})
	}
}
