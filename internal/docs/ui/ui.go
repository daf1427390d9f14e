// Package ui serves the documentation of the REST API: the OpenAPI document, Swagger UI to read it
// and try it out, and a guide. All files are embedded, and the pages load nothing from other hosts.
package ui

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"github.com/swaggest/swgui/v5/static"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/openapi"
)

//go:embed page
var page embed.FS

// The content security policies restrict the pages to their own host, and scripts to files. Swagger
// UI sets style attributes and loads its icons from data: URLs. The guide does neither.
const (
	policy          = "default-src 'none'; script-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'self'"
	swaggerUIPolicy = policy + " 'unsafe-inline'"
)

// Options configure the documentation.
type Options struct {
	// Deployment is the documented gateway.
	Deployment openapi.Deployment
	// TestKeys are the public keys of a sandbox. Readers can fill them in with one click.
	TestKeys []TestKey
	// SandboxGRPC is the HOST:PORT at which SDKs reach a sandbox over gRPC. It must be set.
	SandboxGRPC string
	// ServesGRPC is set if this program serves the sandbox there. Otherwise it is the
	// default address of mesh-gateway sandbox.
	ServesGRPC bool
}

// TestKey is an API user of the sandbox.
type TestKey struct{ Name, Description, Key, Group string }

// Docs is the documentation of a gateway.
type Docs struct {
	files map[string]http.Handler // below /docs/
	specs map[string]http.Handler // by path
}

// New returns the documentation. Pages and documents are written on the first request, which takes
// a tenth of a second for the guide.
func New(o Options) (*Docs, error) {
	d := &Docs{files: make(map[string]http.Handler), specs: make(map[string]http.Handler)}
	if err := o.Deployment.Validate(); err != nil {
		return nil, err
	}
	for _, spec := range []struct {
		path   string
		format openapi.Format
	}{{wire.OpenAPIPath, openapi.JSON}, {wire.YAMLPath, openapi.YAML}, {wire.SwaggerPath, openapi.Swagger2}} {
		d.specs[spec.path] = written(spec.path, func() ([]byte, error) { return openapi.Write(spec.format, o.Deployment) })
	}

	for _, name := range []string{"docs.css", "docs.js", "guide.js"} {
		content, err := page.ReadFile("page/" + name)
		if err != nil {
			return nil, err
		}
		d.files[name] = newFile(name, content)
	}
	for _, name := range []string{"swagger-ui.css.gz", "swagger-ui-bundle.js.gz", "favicon-16x16.png", "favicon-32x32.png"} {
		content, err := fs.ReadFile(static.FS, name)
		if err != nil {
			return nil, err
		}
		d.files[strings.TrimSuffix(name, ".gz")] = newFile(name, content)
	}

	d.files[""] = written("index.html", func() ([]byte, error) { return render("index.html", o) })
	d.files["guide"] = written("guide.html", func() ([]byte, error) {
		guide, err := newGuide(o)
		if err != nil {
			return nil, fmt.Errorf("guide: %w", err)
		}
		html, err := render("guide.html", guide)
		return guide.unlink(html), err
	})
	return d, nil
}

// render executes a template of a page.
func render(name string, data any) ([]byte, error) {
	pages, err := template.New("").Funcs(template.FuncMap{
		"prose": prose, "status": status,
		"credentialsVariable": func() string { return credentials.Variable },
		"readAttempts":        func() int { return upstream.ReadAttempts },
	}).ParseFS(page, "page/*.html")
	if err != nil {
		return nil, err
	}
	var html bytes.Buffer
	err = pages.ExecuteTemplate(&html, name, data)
	return html.Bytes(), err
}

// ServeHTTP serves Swagger UI at /docs, the guide at /docs/guide, and their files below /docs/.
// Mount it for GET and HEAD at /docs and /docs/*.
func (d *Docs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/docs"), "/")
	file, ok := d.files[name]
	if !ok {
		apierror.Write(w, apierror.New(codes.NotFound, apierror.UnknownPath, "This page does not exist. The documentation is at /docs, and the guide is at /docs/guide."))
		return
	}
	w.Header().Set("Content-Security-Policy", policy)
	if name == "" {
		w.Header().Set("Content-Security-Policy", swaggerUIPolicy)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	file.ServeHTTP(w, r)
}

// Specs returns the handlers of the documents by their paths: /openapi.json,
// /openapi.yaml and /swagger.json.
func (d *Docs) Specs() map[string]http.Handler { return d.specs }

// written serves a file that is generated on the first request, because most files are never
// requested.
func written(name string, write func() ([]byte, error)) http.Handler {
	once := sync.OnceValues(func() (*file, error) {
		content, err := write()
		if err != nil {
			return nil, err
		}
		compressed, err := compress(content)
		if err != nil {
			return nil, err
		}
		return newFile(name+".gz", compressed), nil
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, err := once()
		if err != nil {
			apierror.Write(w, err)
			return
		}
		file.ServeHTTP(w, r)
	})
}
