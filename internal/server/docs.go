package server

import (
	"net/http"
	"sync/atomic"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/docs/ui"
)

// docs serves the documentation of what the rules of access allow. When the rules are replaced, the
// next request sees another documentation.
type docs struct {
	options ui.Options
	access  *access.Current
	built   atomic.Pointer[builtDocs]
}

// builtDocs is the documentation for some rules.
type builtDocs struct {
	rules *access.Rules
	*ui.Docs
}

func newDocs(options ui.Options, access *access.Current) (*docs, error) {
	d := &docs{options: options, access: access}
	_, err := d.current()
	return d, err
}

// current returns the documentation for the rules in force. Requests that come at the same time after
// a change may each build it, which is cheap: pages are written when they are first asked for.
func (d *docs) current() (*ui.Docs, error) {
	rules, built := d.access.Rules(), d.built.Load()
	if built != nil && built.rules == rules {
		return built.Docs, nil
	}
	options := d.options
	options.Deployment.Serves = rules.Serves
	docs, err := ui.New(options)
	if err != nil {
		return nil, err
	}
	d.built.Store(&builtDocs{rules, docs})
	return docs, nil
}

// ServeHTTP serves the pages below /docs and the documents.
func (d *docs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	current, err := d.current()
	if err != nil {
		apierror.Write(w, err)
		return
	}
	if spec := current.Specs()[r.URL.Path]; spec != nil {
		spec.ServeHTTP(w, r)
		return
	}
	current.ServeHTTP(w, r)
}
