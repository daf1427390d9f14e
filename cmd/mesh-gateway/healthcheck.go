package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

type healthcheckCommand struct {
	URL     string        `default:"http://127.0.0.1:8080/healthz" env:"MESH_GATEWAY_HEALTHCHECK_URL" placeholder:"URL" help:"URL to request; 200 is healthy (${default})."`
	Timeout time.Duration `default:"3s" env:"MESH_GATEWAY_HEALTHCHECK_TIMEOUT" placeholder:"DURATION" help:"How long to wait for the answer (${default})."`
}

// Help follows the summary in the command's help.
func (healthcheckCommand) Help() string { return aboutFlags }

// Validate is called by kong once the flags are read.
func (c healthcheckCommand) Validate() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return &usageError{"url", fmt.Errorf("%q is not an HTTP URL, such as http://127.0.0.1:8080/healthz", c.URL)}
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("--timeout must be more than 0s, not %s", c.Timeout)
	}
	return nil
}

// Run is for a container's HEALTHCHECK: the image has no curl.
func (c healthcheckCommand) Run(ctx context.Context, std streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("unhealthy: no answer from %s within %s", c.URL, c.Timeout)
	}
	if err != nil {
		return fmt.Errorf("unhealthy: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("unhealthy: %s answered %s", c.URL, response.Status)
	}
	_, err = fmt.Fprintln(std.out, "healthy")
	return err
}
