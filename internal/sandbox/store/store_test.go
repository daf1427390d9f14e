package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// pet is a record. Its owners count for its size.
type pet struct {
	Name, Owner string
	Owners      []string
	Chip        string
	Hungry      bool
}

func (p *pet) GetName() string     { return p.Name }
func (p *pet) GetOwner() string    { return p.Owner }
func (p *pet) GetOwners() []string { return p.Owners }

// pets is a store with a table of pets.
type pets struct {
	*store.Store
	store.Table[*pet]
}

func open(t *testing.T, config store.Config) (_ pets, found bool) {
	t.Helper()
	if config.Records == 0 {
		config.Records = 100
	}
	if config.Bytes == 0 {
		config.Bytes = 1 << 20
	}
	s := store.New(config)
	table := store.NewTable(s, "pets", store.TableOptions[*pet]{
		Keys:    func(p *pet) []string { return []string{p.Chip} },
		Pending: func(p *pet) bool { return p.Hungry },
	})
	found, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return pets{s, table}, found
}

// update changes pets in one transaction.
func (p pets) update(change func(*store.Tx) error) error {
	_, err := store.Update(p.Store, func(tx *store.Tx) (struct{}, error) { return struct{}{}, change(tx) })
	return err
}

// create creates pets in one transaction.
func (p pets) create(all ...*pet) error {
	return p.update(func(tx *store.Tx) error {
		for _, one := range all {
			if err := p.Create(tx, one); err != nil {
				return err
			}
		}
		return nil
	})
}

// names returns the names of the pets that list finds.
func (p pets) names(list func(*store.Tx) []*pet) string {
	all, _ := store.View(p.Store, func(tx *store.Tx) ([]*pet, error) { return list(tx), nil })
	var names []string
	for _, one := range all {
		names = append(names, one.Name)
	}
	return strings.Join(names, " ")
}

func (p pets) all(tx *store.Tx) []*pet { return slices.Collect(p.All(tx)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("the code is %s, want %s: %v", got, want, err)
	}
}

func TestRecordsAreFound(t *testing.T) {
	p, _ := open(t, store.Config{})
	must(t, p.create(
		&pet{Name: "rex", Owner: "ann", Chip: "7", Hungry: true},
		&pet{Name: "tom", Owner: "bob", Chip: "7"},
		&pet{Name: "ace", Owner: "ann", Hungry: true},
		&pet{Name: "kit", Owner: "anna"},
	))
	must(t, p.update(func(tx *store.Tx) error { return p.Update(tx, &pet{Name: "rex", Owner: "ann", Chip: "7"}) }))
	one := func(found *pet, ok bool) []*pet {
		if !ok {
			return nil
		}
		return []*pet{found}
	}
	for _, test := range []struct {
		name, want string
		list       func(*store.Tx) []*pet
	}{
		{"all, in the order of creation", "rex tom ace kit", p.all},
		{"of an owner", "rex ace", func(tx *store.Tx) []*pet { return slices.Collect(p.Owned(tx, "ann")) }},
		{"of an owner whose name begins like another", "kit", func(tx *store.Tx) []*pet { return slices.Collect(p.Owned(tx, "anna")) }},
		{"of nobody", "", func(tx *store.Tx) []*pet { return slices.Collect(p.Owned(tx, "")) }},
		{"pending, after one ended", "ace", func(tx *store.Tx) []*pet { return slices.Collect(p.Pending(tx)) }},
		{"by name", "ace", func(tx *store.Tx) []*pet { return one(p.Get(tx, "ace")) }},
		{"by the beginning of a name", "", func(tx *store.Tx) []*pet { return one(p.Get(tx, "ac")) }},
		{"by a key of two, the older", "rex", func(tx *store.Tx) []*pet { return one(p.Find(tx, "7")) }},
		{"by an empty key", "", func(tx *store.Tx) []*pet { return one(p.Find(tx, "")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := p.names(test.list); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestATransactionIsAllOrNothing makes changes that a later one spoils.
func TestATransactionIsAllOrNothing(t *testing.T) {
	spoilt := errors.New("spoilt")
	for _, test := range []struct {
		name  string
		spoil func(pets, *store.Tx) error
		want  codes.Code
	}{
		{"an error", func(pets, *store.Tx) error { return spoilt }, codes.Unknown},
		{"a name that is taken", func(p pets, tx *store.Tx) error { return p.Create(tx, &pet{Name: "tom"}) }, codes.Unknown},
		{"an update of what is not there", func(p pets, tx *store.Tx) error { return p.Update(tx, &pet{Name: "ace"}) }, codes.Unknown},
		{"too many records", func(p pets, tx *store.Tx) error { return p.Create(tx, &pet{Name: "ace"}) }, codes.ResourceExhausted},
		{"too many bytes", func(p pets, tx *store.Tx) error {
			return p.Update(tx, &pet{Name: "tom", Owners: []string{strings.Repeat("o", 200)}})
		}, codes.ResourceExhausted},
	} {
		for _, file := range []string{"", filepath.Join(t.TempDir(), "pets.db")} {
			t.Run(fmt.Sprintf("%s, file %t", test.name, file != ""), func(t *testing.T) {
				p, _ := open(t, store.Config{Records: 2, Bytes: 100, File: file})
				must(t, p.create(&pet{Name: "rex", Chip: "7"}))
				err := p.update(func(tx *store.Tx) error {
					must(t, p.Update(tx, &pet{Name: "rex", Chip: "7", Hungry: true}))
					must(t, p.Create(tx, &pet{Name: "tom"}))
					return test.spoil(p, tx)
				})
				wantCode(t, err, test.want)
				check := func() {
					t.Helper()
					if got := p.names(p.all); got != "rex" {
						t.Errorf("there are %q", got)
					}
					if got := p.names(func(tx *store.Tx) []*pet { return slices.Collect(p.Pending(tx)) }); got != "" {
						t.Errorf("%q changed", got)
					}
				}
				check()
				must(t, p.create(&pet{Name: "kit"})) // there is room for it, and its number is free
				if file != "" {
					must(t, p.Close())
					p, _ = open(t, store.Config{File: file})
					if got := p.names(p.all); got != "rex kit" {
						t.Errorf("the file has %q", got)
					}
				}
			})
		}
	}
}

// TestAPanicReleasesTheStore lets a panic pass through a transaction.
func TestAPanicReleasesTheStore(t *testing.T) {
	p, _ := open(t, store.Config{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = p.update(func(tx *store.Tx) error {
			must(t, p.Create(tx, &pet{Name: "rex"}))
			panic("bug")
		})
	}()
	must(t, p.create(&pet{Name: "tom"}))
	if got := p.names(p.all); got != "tom" {
		t.Errorf("there are %q", got)
	}
}

// TestBoundsHoldForWhatIsAdmitted fills a table in ways that are not a caller's.
func TestBoundsHoldForWhatIsAdmitted(t *testing.T) {
	p, _ := open(t, store.Config{Records: 1, Bytes: 10})
	big := &pet{Name: "rex", Owners: []string{strings.Repeat("o", 50)}}
	must(t, p.create(&pet{Name: "rex"}))
	wantCode(t, p.update(func(tx *store.Tx) error { return p.Update(tx, big) }), codes.ResourceExhausted)
	must(t, p.Continue(func(tx *store.Tx) error { return p.Update(tx, big) }))
	must(t, p.Continue(func(tx *store.Tx) error { return p.Create(tx, &pet{Name: "tom"}) }))
	t.Run("a change that does not grow is admitted", func(t *testing.T) {
		must(t, p.update(func(tx *store.Tx) error {
			changed := *big
			changed.Hungry = true
			return p.Update(tx, &changed)
		}))
	})
	t.Run("it is full", func(t *testing.T) {
		must(t, p.Continue(func(tx *store.Tx) error {
			if !p.Full(tx) || p.Count(tx) != 2 {
				t.Errorf("full %t with %d records", p.Full(tx), p.Count(tx))
			}
			return nil
		}))
	})
}

func TestALimitOfATable(t *testing.T) {
	s := store.New(store.Config{Records: 5, Bytes: 100})
	p := pets{s, store.NewTable(s, "pets", store.TableOptions[*pet]{Limit: 1})}
	_, err := s.Open()
	must(t, err)
	must(t, p.create(&pet{Name: "rex"}))
	wantCode(t, p.create(&pet{Name: "tom"}), codes.ResourceExhausted)
}

func TestTryTakesBack(t *testing.T) {
	p, _ := open(t, store.Config{})
	must(t, p.create(&pet{Name: "rex", Owner: "ann", Chip: "7"}))
	failed := errors.New("failed")
	must(t, p.update(func(tx *store.Tx) error {
		must(t, p.Create(tx, &pet{Name: "tom"}))
		if err := tx.Try(func() error {
			must(t, p.Update(tx, &pet{Name: "rex", Owner: "bob", Chip: "7"}))
			must(t, p.Create(tx, &pet{Name: "ace", Chip: "8"}))
			must(t, p.Update(tx, &pet{Name: "rex", Owner: "cat", Chip: "7", Hungry: true}))
			return failed
		}); !errors.Is(err, failed) {
			t.Errorf("Try returns %v", err)
		}
		return p.Create(tx, &pet{Name: "kit"})
	}))
	if got := p.names(p.all); got != "rex tom kit" {
		t.Errorf("there are %q", got)
	}
	if got := p.names(func(tx *store.Tx) []*pet { return slices.Collect(p.Owned(tx, "ann")) }); got != "rex" {
		t.Errorf("ann has %q", got)
	}
	if got := p.names(func(tx *store.Tx) []*pet { return slices.Collect(p.Pending(tx)) }); got != "" {
		t.Errorf("%q is hungry", got)
	}
}

func TestAViewSeesOneState(t *testing.T) {
	p, _ := open(t, store.Config{})
	must(t, p.create(&pet{Name: "rex"}))
	_, err := store.View(p.Store, func(tx *store.Tx) (struct{}, error) {
		must(t, p.create(&pet{Name: "tom"})) // it need not wait for the view
		var names []string
		for one := range p.All(tx) {
			names = append(names, one.Name)
		}
		if diff := cmp.Diff([]string{"rex"}, names); diff != "" {
			t.Error(diff)
		}
		if err := p.Create(tx, &pet{Name: "ace"}); err == nil {
			t.Error("a view can write")
		}
		return struct{}{}, nil
	})
	must(t, err)
}

func TestAFileKeepsTheRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pets.db")
	p, found := open(t, store.Config{File: path, Version: 3})
	if found {
		t.Error("a new file has records")
	}
	must(t, p.create(&pet{Name: "rex", Owner: "ann", Owners: []string{"ann"}, Chip: "7", Hungry: true}, &pet{Name: "tom"}))
	must(t, p.update(func(tx *store.Tx) error { return p.Update(tx, &pet{Name: "tom", Owner: "bob"}) }))

	t.Run("after a crash", func(t *testing.T) {
		content, err := os.ReadFile(path)
		must(t, err)
		crashed := filepath.Join(t.TempDir(), "crashed.db")
		must(t, os.WriteFile(crashed, content, 0o600))
		p, found := open(t, store.Config{File: crashed, Version: 3})
		if got := p.names(p.all); !found || got != "rex tom" {
			t.Errorf("found %t, %q", found, got)
		}
	})
	must(t, p.Close())

	t.Run("with everything that finds them", func(t *testing.T) {
		p, _ := open(t, store.Config{File: path, Version: 3})
		defer p.Close()
		got, _ := store.View(p.Store, func(tx *store.Tx) (*pet, error) {
			found, _ := p.Find(tx, "7")
			return found, nil
		})
		if diff := cmp.Diff(&pet{Name: "rex", Owner: "ann", Owners: []string{"ann"}, Chip: "7", Hungry: true}, got); diff != "" {
			t.Error(diff)
		}
		if got := p.names(func(tx *store.Tx) []*pet { return slices.Collect(p.Pending(tx)) }); got != "rex" {
			t.Errorf("%q is hungry", got)
		}
		must(t, p.create(&pet{Name: "ace"}))
		if got := p.names(p.all); got != "rex tom ace" {
			t.Errorf("there are %q", got)
		}
	})
	t.Run("of another version it is refused", func(t *testing.T) {
		s := store.New(store.Config{File: path, Version: 4})
		store.NewTable(s, "pets", store.TableOptions[*pet]{})
		if _, err := s.Open(); err == nil || !strings.Contains(err.Error(), "version 3") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestAFailedWriteChangesNothing closes the file under the store.
func TestAFailedWriteChangesNothing(t *testing.T) {
	p, _ := open(t, store.Config{File: filepath.Join(t.TempDir(), "pets.db")})
	must(t, p.create(&pet{Name: "rex"}))
	must(t, p.Close())
	wantCode(t, p.create(&pet{Name: "tom"}), codes.Unavailable)
	if got := p.names(p.all); got != "rex" {
		t.Errorf("there are %q", got)
	}
}

// TestALazyTableIsWrittenWithTheNextChange leaves a file as a crash does.
func TestALazyTableIsWrittenWithTheNextChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pets.db")
	start := func(path string) (p, toys pets) {
		s := store.New(store.Config{Records: 10, Bytes: 100, File: path})
		p = pets{s, store.NewTable(s, "pets", store.TableOptions[*pet]{})}
		toys = pets{s, store.NewTable(s, "toys", store.TableOptions[*pet]{Lazy: true})}
		_, err := s.Open()
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return p, toys
	}
	inFile := func() string {
		t.Helper()
		content, err := os.ReadFile(path)
		must(t, err)
		crashed := filepath.Join(t.TempDir(), "crashed.db")
		must(t, os.WriteFile(crashed, content, 0o600))
		p, toys := start(crashed)
		return p.names(p.all) + "," + toys.names(toys.all)
	}
	p, toys := start(path)
	for _, step := range []struct {
		name, want string
		do         func() error
	}{
		{"a change of the lazy table", ",", func() error { return toys.create(&pet{Name: "ball"}) }},
		{"one of another", "rex,ball", func() error { return p.create(&pet{Name: "rex"}) }},
		{"another of the lazy table", "rex,ball", func() error { return toys.create(&pet{Name: "rope"}) }},
		{"the end", "rex,ball rope", p.Close},
	} {
		must(t, step.do())
		if got := inFile(); got != step.want {
			t.Errorf("%s: the file has %q, want %q", step.name, got, step.want)
		}
	}
}

func TestReset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pets.db")
	p, _ := open(t, store.Config{File: path, Records: 2})
	must(t, p.create(&pet{Name: "rex"}, &pet{Name: "tom"}))
	failed := errors.New("failed")
	if err := p.Reset(func(tx *store.Tx) error {
		must(t, p.Create(tx, &pet{Name: "ace"}))
		return failed
	}, nil); !errors.Is(err, failed) {
		t.Errorf("Reset returns %v", err)
	}
	if got := p.names(p.all); got != "rex tom" {
		t.Errorf("a reset that failed leaves %q", got)
	}
	must(t, p.Reset(func(tx *store.Tx) error { return p.Create(tx, &pet{Name: "kit"}) }, nil))
	must(t, p.Close())
	p, _ = open(t, store.Config{File: path, Records: 2})
	if got := p.names(p.all); got != "kit" {
		t.Errorf("the file has %q", got)
	}
	must(t, p.Reset(func(tx *store.Tx) error { return p.Create(tx, &pet{Name: "tom"}) }, nil))
	must(t, p.create(&pet{Name: "ace"})) // there is room again
	if got := p.names(p.all); got != "tom ace" {
		t.Errorf("there are %q", got)
	}
}
