package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

type healthcheckCommand struct {
	URL     string        `default:"http://127.0.0.1:8080/healthz" help:"What to ask." placeholder:"URL"`
	Timeout time.Duration `default:"3s" help:"How long to wait."`
}

// Run is for a container's HEALTHCHECK, where there is no curl.
func (c healthcheckCommand) Run(ctx context.Context, std streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return &usageError{"url", err}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", c.URL, response.Status)
	}
	_, err = fmt.Fprintln(std.out, "healthy")
	return err
}
