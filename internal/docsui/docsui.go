// Package docsui serves the documentation of the REST API: the OpenAPI
// document, and Swagger UI to read it and try it out. All of it is embedded;
// the page loads nothing from another host.
package docsui

import (
	"embed"
	"io/fs"
	"net/http"
	"strings"

	"github.com/swaggest/swgui/v5/static"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/openapi"
)

//go:embed page
var page embed.FS

// contentSecurityPolicy keeps the page to its own host, and script to files.
// Swagger UI may set style attributes, hence 'unsafe-inline' for styles, and draws
// its icons from data: URLs.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves Swagger UI at /docs, for the document at /openapi.json, and
// its assets below /docs/. Mount it for GET and HEAD at both.
func Handler() http.Handler {
	files := map[string]*file{
		"":        load(page, "page/index.html"),
		"init.js": load(page, "page/init.js"),
	}
	for _, name := range []string{"swagger-ui.css", "swagger-ui-bundle.js"} {
		files[name] = load(static.FS, name+".gz")
	}
	for _, name := range []string{"favicon-16x16.png", "favicon-32x32.png"} {
		files[name] = load(static.FS, name)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/docs"), "/")
		file, ok := files[name]
		if !ok {
			apierror.Write(w, apierror.New(codes.NotFound, apierror.UnknownPath, "There is no such page; the documentation is at /docs."))
			return
		}
		w.Header().Set("Content-Security-Policy", contentSecurityPolicy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		file.ServeHTTP(w, r)
	})
}

// Spec serves the OpenAPI document.
func Spec() http.Handler {
	return newFile("openapi.json", openapi.JSON())
}

// load reads an embedded file. A name that is not embedded is a mistake in
// this package, which its tests would show.
func load(files fs.FS, name string) *file {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err)
	}
	return newFile(name, content)
}
